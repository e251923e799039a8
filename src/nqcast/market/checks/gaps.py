"""Every missing stretch of a file with its explanation: holiday, early close, halt, outage or unknown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.market.calendar import LAST_SHORT_FRIDAY, minute_of_day
from nqcast.market.tables import read_table
from nqcast.spacing import Spacing

HOLIDAY, EARLY_CLOSE, HALT, OUTAGE, UNKNOWN = "holiday", "early close", "halt", "outage", "unknown"

IMPROBABLE = 1e-9
"""A silence less likely than this, were the slots' usual silences independent, is no quiet market."""

Stretch = dict[str, Any]


def explained(bars: pd.DataFrame, span: pd.DataFrame, stretches: list[Stretch], absent: list[str]) -> list[Stretch]:
    """All stretches without trade against a regular week, in order of time, each with `explanation` and `detail`.

    span: sessions from the first to the last bar; stretches: silent ones inside sessions (session, start, end,
    minutes); absent: sessions of the calendar without a bar.
    """
    reasons = _reasons(stretches, bars)
    found = [{**stretch, **reason} for stretch, reason in zip(stretches, reasons, strict=True)]
    found += [_whole_session(day, span) for day in absent]
    found += [*_holidays(span), *_early_closes(span), *_halts(span)]
    return sorted(found, key=lambda stretch: stretch["start"])


def _reasons(stretches: list[Stretch], bars: pd.DataFrame) -> list[dict[str, str]]:
    """Explanation and detail of each silent stretch inside a session."""
    if not stretches:
        return []
    start, end = (pd.DatetimeIndex([stretch[edge] for stretch in stretches]) for edge in ("start", "end"))
    improbable = _log_likelihood(start, end, bars) < np.log(IMPROBABLE)
    breaker, outage = (_overlaps(start, end, read_table("hours")[name]) for name in ("circuit_breakers", "outages"))
    reasons = [
        {"explanation": HALT, "detail": "market-wide circuit breaker"},
        {"explanation": OUTAGE, "detail": "of the exchange"},
        {"explanation": OUTAGE, "detail": "of the source: no market is silent for so long at these hours"},
        {"explanation": UNKNOWN, "detail": "a quiet market, or rows that are missing"},
    ]
    return [reasons[k] for k in np.select([breaker, outage, improbable], [0, 1, 2], 3)]


def _log_likelihood(start: pd.DatetimeIndex, end: pd.DatetimeIndex, bars: pd.DataFrame) -> np.ndarray:
    """Log of the chance of each silence (S,), were the usual silences of its slots, a bar long, independent."""
    spacing = Spacing.of(bars["ts"])
    day = spacing.slots
    open_bars = bars[~bars["halt"]]
    usual = (
        (~open_bars["traded"])
        .groupby(minute_of_day(open_bars["ts"]) // spacing.minutes)
        .mean()
        .reindex(range(day))
        .fillna(1.0)
    )
    summed = np.append(0.0, np.cumsum(np.tile(np.log(usual.clip(lower=1e-3).to_numpy()), 2)))
    first = minute_of_day(start) // spacing.minutes
    whole, rest = np.divmod(((end - start) // spacing.bar).to_numpy(), day)
    return whole * summed[day] + summed[first + rest] - summed[first]


def _overlaps(start: pd.DatetimeIndex, end: pd.DatetimeIndex, spans: list[list[str]]) -> np.ndarray:
    """Which stretches (S,) meet one of the spans."""
    edges = [(pd.Timestamp(first, tz="UTC"), pd.Timestamp(last, tz="UTC")) for first, last in spans]
    return np.any([(start < last) & (end > first) for first, last in edges], axis=0)


def _whole_session(day: str, span: pd.DataFrame) -> Stretch:
    row = span[span["session"] == pd.Timestamp(day)].iloc[0]
    return _stretch(day, row["open"], row["close"], UNKNOWN, "a whole session of the calendar is missing")


def _holidays(span: pd.DataFrame) -> list[Stretch]:
    """Weekdays without a session."""
    weekdays = pd.bdate_range(span["session"].iloc[0], span["session"].iloc[-1])
    return [
        _stretch(str(day.date()), start, start + pd.Timedelta(days=1), HOLIDAY, "no session in the calendar")
        for day in weekdays.difference(pd.DatetimeIndex(span["session"]))
        for start in [(day - pd.Timedelta(hours=7)).tz_localize(EXCHANGE_TIMEZONE).tz_convert("UTC")]
    ]


def _early_closes(span: pd.DataFrame) -> list[Stretch]:
    """Sessions that close before the regular close of their time: 15:15 exchange time until 2012-11-18, then 16:00."""
    regular_hour = np.where(span["session"] <= LAST_SHORT_FRIDAY, 15.25, 16.0)
    regular = span["session"] + pd.to_timedelta(regular_hour, unit="h")
    regular = regular.dt.tz_localize(EXCHANGE_TIMEZONE).dt.tz_convert("UTC")
    early = (span["close"] < regular).to_numpy()
    return [
        _stretch(str(day.date()), close, end, EARLY_CLOSE, "by the calendar")
        for day, close, end in zip(span["session"][early], span["close"][early], regular[early], strict=True)
    ]


def _halts(span: pd.DataFrame) -> list[Stretch]:
    """The daily halt, one entry for all its sessions."""
    with_halt = span[span["halt_start"].notna()]
    if not len(with_halt):
        return []
    first = with_halt.iloc[0]
    detail = f"15:15 to 15:30 exchange time in {len(with_halt)} sessions; the first is given"
    return [_stretch(str(first["session"].date()), first["halt_start"], first["halt_end"], HALT, detail)]


def _stretch(session: str, start: pd.Timestamp, end: pd.Timestamp, explanation: str, detail: str) -> Stretch:
    minutes = int((end - start) / pd.Timedelta(minutes=1))
    fields = {"session": session, "start": str(start), "end": str(end), "minutes": minutes}
    return {**fields, "explanation": explanation, "detail": detail}

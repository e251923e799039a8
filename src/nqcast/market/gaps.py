"""Every missing stretch of a file with its explanation: holiday, early close, halt, outage or unknown."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.config import BAR_MINUTES, EXCHANGE_ZONE
from nqcast.market.schema import MINUTE_NS

HOLIDAY, EARLY_CLOSE, HALT, OUTAGE, UNKNOWN = "holiday", "early close", "halt", "outage", "unknown"

KNOWN_OUTAGES = (
    ("2014-08-24 22:00", "2014-08-25 02:00"),  # Globex opened four hours late
    ("2019-02-27 00:39", "2019-02-27 03:45"),  # Globex, a technical failure
    ("2025-11-28 02:40", "2025-11-28 13:30"),  # Globex, cooling of a data centre
)
"""Halts of the exchange's own systems (UTC)."""

CIRCUIT_BREAKERS = (
    ("2020-03-09 13:34", "2020-03-09 13:49"),
    ("2020-03-12 13:35", "2020-03-12 13:50"),
    ("2020-03-16 13:30", "2020-03-16 13:45"),
    ("2020-03-18 16:56", "2020-03-18 17:11"),
)
"""Market-wide halts of fifteen minutes (UTC)."""

IMPROBABLE = 1e-9
"""A silence less likely than this, were the slots' usual silences independent, is no quiet market."""

Stretch = dict[str, Any]


def explained(bars: pd.DataFrame, span: pd.DataFrame, stretches: list[Stretch], absent: list[str]) -> list[Stretch]:
    """All stretches without trade against a regular week, in order of time, each with `explanation` and `detail`.

    span: sessions from the first to the last bar; stretches: silent ones inside sessions (session, start, end,
    minutes); absent: sessions of the calendar without a bar.
    """
    usual = _silence_by_slot(bars)
    found = [{**stretch, **_why(stretch, usual)} for stretch in stretches]
    found += [_whole_session(day, span) for day in absent]
    found += [*_holidays(span), *_early_closes(span), *_halts(span)]
    return sorted(found, key=lambda stretch: stretch["start"])


def summary(stretches: list[Stretch]) -> dict[str, int]:
    """Number of stretches by explanation."""
    return dict(Counter(str(stretch["explanation"]) for stretch in stretches))


def _why(stretch: Stretch, usual: pd.Series) -> dict[str, str]:
    start, end = pd.Timestamp(stretch["start"]), pd.Timestamp(stretch["end"])
    if _overlaps(start, end, CIRCUIT_BREAKERS):
        return {"explanation": HALT, "detail": "market-wide circuit breaker"}
    if _overlaps(start, end, KNOWN_OUTAGES):
        return {"explanation": OUTAGE, "detail": "of the exchange"}
    slots = _slot(pd.Series(pd.date_range(start, end, freq=f"{BAR_MINUTES}min", inclusive="left")))
    likelihood = float(np.exp(np.log(usual.reindex(slots).fillna(1.0).clip(lower=1e-3)).sum()))
    if likelihood < IMPROBABLE:
        return {"explanation": OUTAGE, "detail": "of the source: no market is silent for so long at these hours"}
    return {"explanation": UNKNOWN, "detail": "a quiet market, or rows that are missing"}


def _silence_by_slot(bars: pd.DataFrame) -> pd.Series:
    """Share of grid bars without a trade, by five-minute slot of the day in exchange time."""
    open_bars = bars[~bars["halt"]]
    return (~open_bars["traded"]).groupby(_slot(open_bars["ts"])).mean()


def _slot(ts: pd.Series) -> np.ndarray:
    local = pd.DatetimeIndex(ts).tz_convert(EXCHANGE_ZONE)
    return np.asarray(local.hour * 60 + local.minute) // BAR_MINUTES


def _overlaps(start: pd.Timestamp, end: pd.Timestamp, spans: tuple[tuple[str, str], ...]) -> bool:
    return any(start < pd.Timestamp(last, tz="UTC") and end > pd.Timestamp(first, tz="UTC") for first, last in spans)


def _whole_session(day: str, span: pd.DataFrame) -> Stretch:
    row = span[span["session"] == pd.Timestamp(day)].iloc[0]
    return _stretch(day, row["open"], row["close"], UNKNOWN, "a whole session of the calendar is missing")


def _holidays(span: pd.DataFrame) -> list[Stretch]:
    """Weekdays without a session."""
    weekdays = pd.bdate_range(span["session"].iloc[0], span["session"].iloc[-1])
    return [
        _stretch(str(day.date()), start, start + pd.Timedelta(days=1), HOLIDAY, "no session in the calendar")
        for day in weekdays.difference(pd.DatetimeIndex(span["session"]))
        for start in [(day - pd.Timedelta(hours=7)).tz_localize(EXCHANGE_ZONE).tz_convert("UTC")]
    ]


def _early_closes(span: pd.DataFrame) -> list[Stretch]:
    """Sessions that close before 15:30 exchange time, up to a regular close at 16:00."""
    local = span["close"].dt.tz_convert(EXCHANGE_ZONE)
    early = span[local.dt.hour * 60 + local.dt.minute < 15 * 60 + 30]
    regular = (early["session"] + pd.Timedelta(hours=16)).dt.tz_localize(EXCHANGE_ZONE).dt.tz_convert("UTC")
    return [
        _stretch(str(day.date()), close, end, EARLY_CLOSE, "by the calendar")
        for day, close, end in zip(early["session"], early["close"], regular, strict=True)
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
    minutes = int((nanoseconds(pd.Series([end])) - nanoseconds(pd.Series([start])))[0] // MINUTE_NS)
    fields = {"session": session, "start": str(start), "end": str(end), "minutes": minutes}
    return {**fields, "explanation": explanation, "detail": detail}

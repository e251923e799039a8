"""Whether bars can carry a forecast: new enough, without holes, in a session that goes on; and when it ends."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.forecast.config import ForecastConfig
from nqcast.horizons import DEFAULT, Horizon, horizons
from nqcast.market import calendar
from nqcast.market.config import IngestConfig
from nqcast.spacing import Spacing


class ForecastRefusedError(ValueError):
    """These bars carry no forecast; the message says why, and what would."""


@dataclass(frozen=True)
class Anchor:
    """The bar at which a forecast is issued: its row, and the close of its session by the calendar (UTC)."""

    row: int
    session_close: pd.Timestamp


def known_bars(checked: pd.DataFrame, config: ForecastConfig, raw_minutes: int, spacing: Spacing) -> pd.DataFrame:
    """The raw bars of every bar of the grid that had ended at `as_of`, or now, or at the end of the newest raw bar.

    checked: bars with the stamps of their starts. A bar that ends after now is not finished, whatever it holds.
    """
    ts = checked["ts"]
    now = pd.Timestamp(config.now())
    as_of = min(ts.max() + pd.Timedelta(minutes=raw_minutes), now) if config.as_of is None else now
    cut = as_of.tz_convert("UTC").floor(spacing.bar)
    known = checked[(ts < cut) | ts.isna()]
    if not (known["ts"] < cut).any():
        raise ForecastRefusedError(
            f"expected bars that had ended at {_at(as_of)}, found the first bar at {_at(ts.min())}: "
            "set a later forecast.as_of or bring earlier bars"
        )
    return known


def least_minutes(names: Iterable[str]) -> tuple[int, int]:
    """Minutes that a session must go on for, for one horizon to end as it should, and for all of them."""
    least = [one.least for one in horizons(names)]
    return min(least), max(least)


def choose_anchor(
    bars: pd.DataFrame, config: ForecastConfig, sessions: pd.DataFrame, names: Iterable[str] = DEFAULT
) -> Anchor:
    """The newest traded bar outside a halt from which a horizon ends inside the session, or over the break.

    Where the session is over and the bars are history (neither `as_of` nor `max_age_minutes` is set), the last one
    from which every horizon does.

    `sessions` are those of `nqcast.market.calendar` around the newest bars.

    Raises:
        ForecastRefusedError: the bars are too few or too old, or no horizon ends before the session does.
    """
    spacing = Spacing.of(bars["ts"])
    if len(bars) < (fewest := spacing.rows(config.min_bars)):
        raise ForecastRefusedError(
            f"expected at least {fewest} {spacing.word} bars up to the forecast, found {len(bars)}: bring a "
            "longer history, or lower forecast.min_bars and accept a scale whose slow averages have not filled"
        )
    end = bars["ts"] + spacing.bar
    _check_age(end.iloc[-1], config)
    close = session_close(bars["ts"].iloc[-1], sessions)
    left = (close - end) / pd.Timedelta(minutes=1)
    usable = bars["traded"] & ~bars["halt"] & (bars["session"] == bars["session"].iloc[-1])
    least = least_minutes(names)
    some, every = (np.flatnonzero(usable & (left >= minutes)) for minutes in least)
    if some.size and some[-1] == np.flatnonzero(usable)[-1]:
        return Anchor(int(some[-1]), close)
    history = config.as_of is None and config.max_age_minutes is None
    if not history or not some.size:
        raise ForecastRefusedError(
            f"expected a session that goes on for {least[0]} minutes or more, found the newest bar's end "
            f"at {_at(end.iloc[-1])} and the close at {_at(close)}: forecast when the next session has begun, or set "
            "forecast.as_of to an earlier time"
        )
    return Anchor(int(every[-1] if every.size else some[-1]), close)


def check_window(bars: pd.DataFrame, context: int, config: ForecastConfig, sessions: pd.DataFrame) -> None:
    """Refuse bars (ts, session, traded) in whose newest ones the market goes without a trade for too long.

    Of a file that never holds some hours, as one of the day's trade alone, those hours are not missed.
    """
    window, spacing = bars.tail(context), Spacing.of(bars["ts"])
    expected = open_slots(window["ts"].iloc[0], window["ts"].iloc[-1], sessions, spacing)
    expected = expected[np.isin(_slot(expected, spacing), _usual_slots(bars, spacing))]
    silent = ~expected.isin(pd.DatetimeIndex(window.loc[window["traded"], "ts"]))
    start = np.flatnonzero(np.diff(silent.astype(int), prepend=0) == 1)
    length = np.flatnonzero(np.diff(silent.astype(int), append=0) == -1) + 1 - start
    if not length.size or length.max() * spacing.minutes <= config.max_gap_minutes:
        return
    worst = int(length.argmax())
    first, last = expected[start[worst]], expected[start[worst] + length[worst] - 1] + spacing.bar
    raise ForecastRefusedError(
        f"expected a trade at least every {config.max_gap_minutes} minutes of open market in the last {len(window)} "
        f"bars, found none from {_at(first)} to {_at(last)} ({length[worst] * spacing.minutes} minutes of trading): "
        "fill the gap, set forecast.as_of to a time before it, or raise forecast.max_gap_minutes"
    )


def _slot(ts: pd.DatetimeIndex, spacing: Spacing) -> np.ndarray:
    return calendar.minute_of_day(ts) // spacing.minutes


def _usual_slots(bars: pd.DataFrame, spacing: Spacing) -> np.ndarray:
    """Slots of the day (exchange time) that trade in a tenth of the sessions at least."""
    traded = np.bincount(_slot(pd.DatetimeIndex(bars.loc[bars["traded"], "ts"]), spacing), minlength=spacing.slots)
    return np.flatnonzero(traded > 0.1 * bars["session"].nunique())


def session_close(ts: pd.Timestamp, sessions: pd.DataFrame) -> pd.Timestamp:
    """Close (UTC) of the session that holds a stamp; ForecastRefusedError where the calendar has none."""
    row = int(calendar.assign_sessions(pd.Series([ts]), sessions)[0])
    if row == calendar.OUTSIDE:
        raise ForecastRefusedError(
            f"expected the newest bar inside a session, found it at {_at(ts)}, when the calendar has the market "
            "closed: correct the zone of the stamps, or say when the session closes with ingest.session_closes"
        )
    return pd.Timestamp(sessions["close"].iloc[row])


def open_slots(first: pd.Timestamp, last: pd.Timestamp, sessions: pd.DataFrame, spacing: Spacing) -> pd.DatetimeIndex:
    """Starts of the bars from `first` to `last` (UTC) in which the market is open and not halted."""
    grid = pd.Series(pd.date_range(first, last, freq=spacing.bar))
    row = calendar.assign_sessions(grid, sessions)
    halted = (grid >= sessions["halt_start"].iloc[row].to_numpy()) & (grid < sessions["halt_end"].iloc[row].to_numpy())
    return pd.DatetimeIndex(grid[(row != calendar.OUTSIDE) & ~halted.to_numpy()])


def _check_age(end: pd.Timestamp, config: ForecastConfig) -> None:
    """Refuse bars that are too old for the clock, or for the `as_of` that was asked for."""
    limit = config.max_age_minutes
    if limit is None and config.as_of is not None:
        limit = config.max_gap_minutes
    if limit is None:
        return
    age = (pd.Timestamp(config.now()) - end) / pd.Timedelta(minutes=1)
    if age > limit:
        since = "ago" if config.as_of is None else f"before forecast.as_of, {_at(pd.Timestamp(config.as_of))}"
        raise ForecastRefusedError(
            f"expected bars that end at most {limit:g} minutes {since}, found the newest one's end at {_at(end)}, "
            f"{age:,.0f} minutes {since.split(',')[0]}: bring newer bars, change forecast.as_of, or raise "
            "forecast.max_age_minutes"
        )


def _at(time: pd.Timestamp) -> str:
    return f"{pd.Timestamp(time).tz_convert('UTC'):%Y-%m-%d %H:%M} UTC"


def target_times(
    bars: pd.Series, close: Iterable[pd.Timestamp], names: Iterable[str], ingest: IngestConfig
) -> list[list[pd.Timestamp]]:
    """The end of each horizon, a list for each bar that starts at `bars` (UTC) in a session that ends at `close`.

    NaT where a horizon by the clock, or to the close, does not end inside the session. Over the break it is the same
    hour of exchange time so many sessions later, or that session's close where that comes first.
    """
    known, ends, bar = horizons(names), list(close), ingest.spacing.bar
    later = None
    if any(one.sessions for one in known):
        days = pd.Timedelta(days=max(one.most_days for one in known))
        first, last = bars.iloc[0], bars.iloc[-1] + days
        later = calendar.sessions_around(first, last, ingest.session_closes, ingest.instrument)
    rows = zip(bars, ends, strict=True)
    return [[_end(start, start + bar, stop, one, later) for one in known] for start, stop in rows]


def _end(
    start: pd.Timestamp, issued: pd.Timestamp, close: pd.Timestamp, horizon: Horizon, later: pd.DataFrame | None
) -> Any:
    if not horizon.sessions:
        end = issued + pd.Timedelta(minutes=horizon.minutes) if horizon.by_clock else close
        return end if issued < end <= close else pd.NaT
    assert later is not None
    row = int(calendar.assign_sessions(pd.Series([start]), later)[0])
    zone = EXCHANGE_TIMEZONE
    since = issued.tz_convert(zone).tz_localize(None) - later["session"].iloc[row]
    session = later.iloc[min(row + horizon.sessions, len(later) - 1)]
    local = (session["session"] + since).tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return min(local.tz_convert("UTC"), session["close"])

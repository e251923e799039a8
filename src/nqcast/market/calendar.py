"""CME equity-index sessions: pandas_market_calendars with dated corrections, and the session of every bar.

A session is named by its trading date: the one named Monday opens on Sunday at 17:00 Chicago time. All instants
are UTC; arithmetic with times of day is done in exchange time, so the changes of DST need no care.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time, timedelta

import numpy as np
import pandas as pd
import pandas_market_calendars

from nqcast.constants import EXCHANGE_TIMEZONE

REGULAR_CLOSE_1615 = (date(2012, 11, 19), date(2015, 9, 20))
"""First and last date on which the regular close was 16:15; the public calendar says 16:00."""

SPECIAL_CLOSES = {
    date(2018, 12, 5): time(8, 30),  # national days of mourning: the public calendar has no session at all
    date(2025, 1, 9): time(8, 30),
}
NOT_TRADED = (date(2024, 3, 29), date(2025, 4, 18))
"""Good Fridays without a session (no payrolls that day) that the public calendar opens until 08:15."""

OUTSIDE = -1


def trading_sessions(start: date, end: date, closes: Mapping[date, time] | None = None) -> pd.DataFrame:
    """Sessions whose trading date lies in [start, end], in order.

    Returns session (datetime64[ns], naive trading date), open, close, halt_start, halt_end (datetime64[ns, UTC];
    NaT where the session has no 15:15-15:30 halt: after 2021-06-25, on early closes, before 2012-11-19).
    `closes` adds to or overrides the dated corrections: trading date -> close in exchange time.
    """
    if pd.Timestamp(end) < pd.Timestamp(start):
        raise ValueError(f"expected end on or after start, found start {start} and end {end}: swap them")
    margin = timedelta(days=10)  # the library's empty schedule has no types
    library = pandas_market_calendars.get_calendar("CME_Equity").schedule(
        start - margin, end + margin, market_times="all", tz=EXCHANGE_TIMEZONE
    )
    local = pd.DataFrame(
        {
            "session": library.index.as_unit("ns"),
            "open": _naive(library["market_open"]),
            "close": _naive(library["market_close"]),
            "halt_start": _naive(library["break_start"]),
            "halt_end": _naive(library["break_end"]),
        }
    )
    local["close"] = _corrected_closes(local)
    special = {**SPECIAL_CLOSES, **(closes or {})}
    local = _with_special_closes(local, {day: at for day, at in special.items() if _within(day, start, end)})
    local = local[
        local["session"].between(pd.Timestamp(start), pd.Timestamp(end))
        & ~local["session"].isin(pd.to_datetime(list(NOT_TRADED)))
    ]
    no_halt = ~((local["halt_start"] < local["halt_end"]) & (local["halt_end"] < local["close"]))
    local.loc[no_halt, ["halt_start", "halt_end"]] = pd.NaT
    for column in ("open", "close", "halt_start", "halt_end"):
        local[column] = local[column].dt.tz_localize(EXCHANGE_TIMEZONE).dt.tz_convert("UTC").dt.as_unit("ns")
    return local.reset_index(drop=True)


def sessions_around(first: pd.Timestamp, last: pd.Timestamp, closes: Mapping[date, time] | None = None) -> pd.DataFrame:
    """Sessions that can hold bars from `first` to `last` (UTC), with a margin longer than any holiday at both ends."""
    margin = timedelta(days=6)
    return trading_sessions(first.date() - margin, last.date() + margin, closes)


def assign_sessions(ts: pd.Series, sessions: pd.DataFrame) -> np.ndarray:
    """Row of `sessions` that holds each stamp (N,), int64; OUTSIDE (-1) where none does: a close is outside."""
    stamp = nanoseconds(ts)
    position = np.searchsorted(nanoseconds(sessions["open"]), stamp, side="right") - 1
    close = nanoseconds(sessions["close"])
    inside = (position >= 0) & (stamp < close[np.maximum(position, 0)])
    return np.where(inside, position, OUTSIDE)


def runs_outside(ts: pd.Series, position: np.ndarray, spacing: int, minutes: int) -> pd.DataFrame:
    """Runs of at least `minutes` consecutive minutes of bars outside every session.

    ts is sorted, stamps may repeat (several contracts); spacing in minutes. One 5-minute bar is no proof of five
    traded minutes, so a run has at least two bars. Returns start (first stamp), end (END of the last bar), minutes.
    """
    stamp = np.unique(nanoseconds(ts)[position == OUTSIDE])
    step = spacing * 60_000_000_000
    first = np.flatnonzero(np.diff(stamp, prepend=stamp[:1] - 2 * step) != step)
    length = np.diff(first, append=len(stamp))
    long = (length * spacing >= minutes) & (length >= 2)
    start = stamp[first[long]]
    return pd.DataFrame(
        {
            "start": pd.to_datetime(start, utc=True),
            "end": pd.to_datetime(start + length[long] * step, utc=True),
            "minutes": length[long] * spacing,
        }
    )


def extend_sessions(sessions: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """Sessions widened, or added, so that the runs of `runs_outside` fall into them.

    A run belongs to the trading date of its start (17:00 exchange time opens the next date). If that date has a
    session, its open or close moves to take the run in; if not, the run becomes a session of that date.
    """
    opens = dict(zip(sessions["session"], sessions["open"], strict=True))
    closes = dict(zip(sessions["session"], sessions["close"], strict=True))
    for start, end in zip(runs["start"], runs["end"], strict=True):
        day = trading_date(start)
        opens[day] = min(opens.get(day, start), start)
        closes[day] = max(closes.get(day, end), end)
    extended = sessions.set_index("session").reindex(pd.DatetimeIndex(list(opens), name="session"))
    extended["open"], extended["close"] = pd.Series(opens), pd.Series(closes)
    return extended.reset_index().sort_values("open", ignore_index=True)[list(sessions.columns)]


def trading_date(ts: pd.Timestamp) -> pd.Timestamp:
    """Trading date of an instant: the exchange date, or the next one from 17:00 on."""
    return (ts.tz_convert(EXCHANGE_TIMEZONE).tz_localize(None) + pd.Timedelta(hours=7)).normalize()


def nanoseconds(ts: pd.Series) -> np.ndarray:
    """Nanoseconds since the epoch (N,), int64; NaT is the smallest int64."""
    return pd.DatetimeIndex(ts).as_unit("ns").asi8


def _naive(column: pd.Series) -> pd.Series:
    return column.dt.tz_localize(None).dt.as_unit("ns").reset_index(drop=True)


def _within(day: date, start: date, end: date) -> bool:
    return pd.Timestamp(start) <= pd.Timestamp(day) <= pd.Timestamp(end)


def _corrected_closes(local: pd.DataFrame) -> pd.Series:
    """Closes in exchange time with the corrections that follow a rule."""
    session, close = local["session"], local["close"].copy()
    at = close - session
    first, last = (pd.Timestamp(day) for day in REGULAR_CLOSE_1615)
    late = session.between(first, last) & (at == pd.Timedelta(hours=16))
    close[late] = session[late] + pd.Timedelta(hours=16, minutes=15)
    month, day, weekday = session.dt.month, session.dt.day, session.dt.day_of_week
    # The cash market closes at 12:00 Chicago time on these days and the futures a quarter of an hour later.
    half_day = (
        ((month == 11) & (weekday == 4) & day.between(23, 29))
        | ((month == 12) & (day == 24))
        | ((month == 7) & (day == 3) & (weekday < 4))
    )
    noon = half_day & (at == pd.Timedelta(hours=12))
    close[noon] = session[noon] + pd.Timedelta(hours=12, minutes=15)
    return close


def _with_special_closes(local: pd.DataFrame, closes: Mapping[date, time]) -> pd.DataFrame:
    indexed = local.set_index("session", drop=False)
    for day, at in closes.items():
        session = pd.Timestamp(day)
        close = session + pd.Timedelta(hours=at.hour, minutes=at.minute)
        if session in indexed.index:
            indexed.loc[session, "close"] = close
        else:
            indexed.loc[session] = {"session": session, "open": session - pd.Timedelta(hours=7), "close": close}
    return indexed.sort_index().reset_index(drop=True)

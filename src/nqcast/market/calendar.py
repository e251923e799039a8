"""CME equity-index sessions: pandas_market_calendars with dated corrections, and the session of every bar.

A session is named by its trading date: the one named Monday opens on Sunday at 17:00 Chicago time. All instants
are UTC; arithmetic with times of day is done in exchange time, so the changes of DST need no care.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pandas_market_calendars
from pandas.tseries.holiday import GoodFriday

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.market.instruments import INDEX_FUTURES, Halt, Instrument

REGULAR_CLOSE_1630 = date(2012, 11, 16)
"""Last date of the older hours: 17:00 to 15:15, and 15:30 to 16:30 on a day whose next day is a session too.

The public calendar ends these sessions at 15:15 and counts 15:30 to 16:30 as the next session's."""
REGULAR_CLOSE_1615 = (date(2012, 11, 19), date(2015, 9, 20))
"""First and last date on which the regular close was 16:15; the public calendar says 16:00."""
HOLIDAY_CLOSE_1030 = date(2014, 2, 17)
"""Last holiday with a session that closed at 10:30; the public calendar says 12:00, as it is since."""

SPECIAL_CLOSES = {
    date(2012, 10, 29): time(8, 15),  # the cash market stayed closed for a hurricane
    date(2012, 10, 30): time(8, 15),
    date(2018, 12, 5): time(8, 30),  # national days of mourning: the public calendar has no session at all
    date(2025, 1, 9): time(8, 30),
}
PAYROLLS_BY = 7
"""Latest day of the month on which a Good Friday has a session, until 08:15: the first Friday has the payrolls.

The public calendar opens every Good Friday from 2024 on; the exchange has opened none on another Friday since 2009."""

LAST_HALT = date(2021, 6, 25)
"""Last date of the era in which trading halts from 15:15 to 15:30."""

OUTSIDE = -1


def trading_sessions(
    start: date, end: date, closes: Mapping[date, time] | None = None, instrument: Instrument | None = None
) -> pd.DataFrame:
    """Sessions of an instrument (index futures where none is given) whose trading date lies in [start, end], in order.

    Returns session (datetime64[ns], naive trading date), open, close, halt_start, halt_end (datetime64[ns, UTC];
    NaT where the session has no 15:15-15:30 halt: after 2021-06-25, on early closes, on Fridays before 2012-11-19).
    `closes` adds to or overrides the dated corrections: trading date -> close in exchange time.
    """
    if pd.Timestamp(end) < pd.Timestamp(start):
        raise ValueError(f"expected end on or after start, found start {start} and end {end}: swap them")
    if instrument is not None and instrument.calendar != INDEX_FUTURES:
        return _product_sessions(start, end, closes or {}, instrument)
    library = _schedule(INDEX_FUTURES, start, end, EXCHANGE_TIMEZONE)
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
    local = _with_older_hours(local)
    special = {**SPECIAL_CLOSES, **(closes or {})}
    local = _with_special_closes(local, {day: at for day, at in special.items() if _within(day, start, end)})
    local = local[
        local["session"].between(pd.Timestamp(start), pd.Timestamp(end))
        & ~local["session"].isin(_closed_good_fridays(start, end))
    ]
    return _in_utc(local, EXCHANGE_TIMEZONE)


def _in_utc(local: pd.DataFrame, zone: str) -> pd.DataFrame:
    """Sessions in UTC from their naive times in a zone; a halt that does not end before the close is none."""
    no_halt = ~((local["halt_start"] < local["halt_end"]) & (local["halt_end"] < local["close"]))
    local.loc[no_halt, ["halt_start", "halt_end"]] = pd.NaT
    for column in ("open", "close", "halt_start", "halt_end"):
        local[column] = local[column].dt.tz_localize(zone).dt.tz_convert("UTC").dt.as_unit("ns")
    return local.reset_index(drop=True)


@lru_cache(maxsize=64)
def _schedule(calendar: str, start: date, end: date, zone: str) -> Any:
    """The library's schedule of a span and ten days around it, since an empty one has no types; not to be changed."""
    margin, library = timedelta(days=10), pandas_market_calendars.get_calendar(calendar)
    return library.schedule(start - margin, end + margin, market_times="all", tz=zone)


def sessions_around(
    first: pd.Timestamp,
    last: pd.Timestamp,
    closes: Mapping[date, time] | None = None,
    instrument: Instrument | None = None,
) -> pd.DataFrame:
    """Sessions that can hold bars from `first` to `last` (UTC), with a margin longer than any holiday at both ends."""
    margin = timedelta(days=6)
    return trading_sessions(first.date() - margin, last.date() + margin, closes, instrument)


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


def extend_sessions(sessions: pd.DataFrame, runs: pd.DataFrame, instrument: Instrument | None = None) -> pd.DataFrame:
    """Sessions widened, or added, so that the runs of `runs_outside` fall into them.

    A run belongs to the trading date of its start (for futures 17:00 exchange time opens the next date). If that date
    has a session, its open or close moves to take the run in; if not, the run becomes a session of that date.
    """
    opens = dict(zip(sessions["session"], sessions["open"], strict=True))
    closes = dict(zip(sessions["session"], sessions["close"], strict=True))
    for start, end in zip(runs["start"], runs["end"], strict=True):
        day = trading_date(start, instrument)
        opens[day] = min(opens.get(day, start), start)
        closes[day] = max(closes.get(day, end), end)
    extended = sessions.set_index("session").reindex(pd.DatetimeIndex(list(opens), name="session"))
    extended["open"], extended["close"] = pd.Series(opens), pd.Series(closes)
    return extended.reset_index().sort_values("open", ignore_index=True)[list(sessions.columns)]


def trading_date(ts: pd.Timestamp, instrument: Instrument | None = None) -> pd.Timestamp:
    """Trading date of an instant: the exchange date, or the next one from the hour on at which the date changes."""
    zone, change = (instrument or Instrument()).date_change
    rest = pd.Timedelta(days=1) - pd.Timedelta(hours=change.hour, minutes=change.minute)
    return (ts.tz_convert(zone).tz_localize(None) + rest).normalize()


def nanoseconds(ts: pd.Series) -> np.ndarray:
    """Nanoseconds since the epoch (N,), int64; NaT is the smallest int64."""
    index = pd.DatetimeIndex(ts)
    return (index if index.unit == "ns" else index.as_unit("ns")).asi8  # as_unit copies


def instants(ts: pd.Series) -> np.ndarray:
    """Stamps (ns) in order, each once; without those that are missing."""
    stamp = nanoseconds(ts)
    stamp = stamp if ts.is_monotonic_increasing else np.sort(stamp[ts.notna().to_numpy()])
    return distinct(stamp)


def distinct(stamp: np.ndarray) -> np.ndarray:
    """Sorted stamps, each once."""
    return stamp[np.diff(stamp, prepend=stamp[:1] - 1) > 0]


def _naive(column: pd.Series) -> pd.Series:
    return column.dt.tz_localize(None).dt.as_unit("ns").reset_index(drop=True)


def _closed_good_fridays(start: date, end: date) -> pd.DatetimeIndex:
    """Good Fridays on which no employment report is published."""
    fridays = GoodFriday.dates(pd.Timestamp(start), pd.Timestamp(end))
    return pd.DatetimeIndex(fridays[fridays.day > PAYROLLS_BY])


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
    at_noon = at == pd.Timedelta(hours=12)
    close[half_day & at_noon] = session[half_day & at_noon] + pd.Timedelta(hours=12, minutes=15)
    holiday = at_noon & ~half_day & (session <= pd.Timestamp(HOLIDAY_CLOSE_1030))
    close[holiday] = session[holiday] + pd.Timedelta(hours=10, minutes=30)
    return close


def _with_older_hours(local: pd.DataFrame) -> pd.DataFrame:
    """Sessions up to REGULAR_CLOSE_1630 with their opening at 17:00, their halt and their close at 16:30."""
    session, local = local["session"], local.copy()
    old = session <= pd.Timestamp(REGULAR_CLOSE_1630)
    late = old & (local["open"].dt.normalize() < session) & (local["open"].dt.hour < 17)
    local.loc[late, "open"] = local.loc[late, "open"].dt.normalize() + pd.Timedelta(hours=17)
    regular = old & (local["close"] - session == pd.Timedelta(hours=15, minutes=15))
    regular &= (session + pd.Timedelta(days=1)).isin(session)
    for column, hour, minute in (("halt_start", 15, 15), ("halt_end", 15, 30), ("close", 16, 30)):
        local.loc[regular, column] = session[regular] + pd.Timedelta(hours=hour, minutes=minute)
    return local


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


def _product_sessions(start: date, end: date, closes: Mapping[date, time], instrument: Instrument) -> pd.DataFrame:
    """Sessions of an instrument whose calendar the library knows well enough; 24/5 changes the date at `opens`."""
    zone = instrument.zone
    library = _schedule(instrument.calendar, start, end, zone)
    session = pd.Series(library.index.as_unit("ns"))
    if instrument.opens is None:
        local = pd.DataFrame({"open": _naive(library["market_open"]), "close": _naive(library["market_close"])})
    else:
        change = pd.Timedelta(hours=instrument.opens.hour, minutes=instrument.opens.minute)
        local = pd.DataFrame({"open": session - pd.Timedelta(days=1) + change, "close": session + change})
    local.insert(0, "session", session)
    local[["halt_start", "halt_end"]] = _halts(library, session, instrument.halt)
    for day, at in closes.items():
        local.loc[(session == pd.Timestamp(day)).to_numpy(), "close"] = pd.Timestamp.combine(day, at)
    inside = session.between(pd.Timestamp(start), pd.Timestamp(end))
    local = local[inside & ~session.dt.strftime("%m-%d").isin(instrument.closed)]
    return _in_utc(local, zone)


def _halts(library: pd.DataFrame, session: pd.Series, halt: Halt | None) -> pd.DataFrame:
    """Start and end of each session's halt, naive: the instrument's, else the library's breaks, else none."""
    if halt is not None:
        daily = session.where(session <= pd.Timestamp(halt.until or date.max.replace(year=2200)))
        hours = (pd.Timedelta(hours=at.hour, minutes=at.minute) for at in (halt.start, halt.end))
        return pd.concat([daily + at for at in hours], axis=1, keys=["halt_start", "halt_end"])
    if "break_start" in library:
        return pd.DataFrame({"halt_start": _naive(library["break_start"]), "halt_end": _naive(library["break_end"])})
    return pd.DataFrame(
        {name: pd.Series(pd.NaT, session.index, "datetime64[ns]") for name in ("halt_start", "halt_end")}
    )

"""CME equity-index sessions: pandas_market_calendars with dated corrections, and the session of every bar.

A session is named by its trading date: the one named Monday opens on Sunday at 17:00 Chicago time. All instants
are UTC; arithmetic with times of day is done in exchange time, so the changes of DST need no care.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time, timedelta
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pandas_market_calendars
from pandas.tseries.holiday import GoodFriday
from pandas_market_calendars.calendars.cme_globex_equities import CMEGlobexEquitiesExchangeCalendar

from nqcast.constants import EXCHANGE_TIMEZONE, MINUTE_NS
from nqcast.market.instruments import INDEX_FUTURES, Halt, Instrument
from nqcast.market.tables import read_table

LAST_SHORT_FRIDAY = pd.Timestamp("2012-11-16")
"""Last date on which a session ended at 15:15 where no other follows on the next day, and else at 16:30."""
PAYROLLS_BY = 7
"""Latest day of the month on which a Good Friday has a session, until 08:15: the first Friday has the payrolls."""
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
    row = instrument or Instrument()
    library = _schedule(row.calendar, start, end, row.zone)
    session = pd.Series(library.index.as_unit("ns"))
    local = pd.DataFrame(
        {"session": session, "open": _naive(library["market_open"]), "close": _naive(library["market_close"])}
    )
    if row.opens is not None:
        change = pd.Timedelta(hours=row.opens.hour, minutes=row.opens.minute)
        local["open"], local["close"] = session - pd.Timedelta(days=1) + change, session + change
    local[["halt_start", "halt_end"]] = _halts(library, session, row.halt)
    if row.calendar == INDEX_FUTURES:
        local = _without_older_evenings(local)
    local = _with_closes(local, closes or {})
    inside = local["session"].between(pd.Timestamp(start), pd.Timestamp(end))
    return _in_utc(local[inside & ~local["session"].dt.strftime("%m-%d").isin(row.closed)], row.zone)


class _IndexFutures(CMEGlobexEquitiesExchangeCalendar):
    """The library's calendar with the hours of all years (hours.yml) and the Good Fridays that it opens too many."""

    regular_market_times: ClassVar[Any] = {
        name: tuple((since, time.fromisoformat(at), *day) for since, at, *day in eras)
        for name, eras in read_table("hours")["regular"].items()
    }

    @property
    def adhoc_holidays(self) -> list[pd.Timestamp]:
        """Good Fridays on which no employment report is published; the library opens every one from 2023 on."""
        fridays = GoodFriday.dates(pd.Timestamp("2023"), pd.Timestamp("2200"))
        return list(fridays[fridays.day > PAYROLLS_BY])

    @property
    def special_closes_adhoc(self) -> list[tuple[time, list[str]]]:
        """Dates that close at an hour of their own."""
        return [(time.fromisoformat(at), days) for at, days in read_table("hours")["closes"].items()]


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
    margin = timedelta(days=10)
    library = _IndexFutures() if calendar == INDEX_FUTURES else pandas_market_calendars.get_calendar(calendar)
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
    step = spacing * MINUTE_NS
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


def minute_of_day(ts: pd.Series | pd.DatetimeIndex | np.ndarray, zone: str = EXCHANGE_TIMEZONE) -> np.ndarray:
    """Minute of a zone's day, 0 to 1439 (N,), of stamps in UTC or in nanoseconds."""
    local = pd.DatetimeIndex(ts, tz="UTC").tz_convert(zone)
    return np.asarray(local.hour * 60 + local.minute)


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


def _without_older_evenings(local: pd.DataFrame) -> pd.DataFrame:
    """Sessions up to LAST_SHORT_FRIDAY end at 15:15 where no session follows the next day."""
    session = local["session"]
    short = (session <= LAST_SHORT_FRIDAY) & ~(session + pd.Timedelta(days=1)).isin(session)
    at = session + pd.Timedelta(hours=15, minutes=15)
    return local.assign(close=local["close"].mask(short & (local["close"] > at), at))


def _with_closes(local: pd.DataFrame, closes: Mapping[date, time]) -> pd.DataFrame:
    """Sessions with the given closes, also on dates that have none: from seven hours before the date on."""
    indexed = local.set_index("session", drop=False)
    for day, at in closes.items():
        session = pd.Timestamp(day)
        if session not in indexed.index:
            indexed.loc[session, ["session", "open"]] = session, session - pd.Timedelta(hours=7)
        indexed.loc[session, "close"] = pd.Timestamp.combine(day, at)
    return indexed.sort_index().reset_index(drop=True)


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

"""The time zone of a file, proved by the market's own rhythm, week by week.

Trade stops once a day and comes back at 17:00 exchange time; a file of the day's trade alone begins at 08:30, and
so does the widest quarter of an hour, whatever hours a file has. Stamps in another zone move these instants, for all
weeks or for those in which two zones disagree.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, EXCHANGE_TIMEZONE, MINUTE_NS
from nqcast.market.calendar import distinct, minute_of_day, nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.config import zone_and_hours
from nqcast.market.instruments import INDEX_FUTURES, Instrument
from nqcast.market.tables import USUAL_ZONES

CASH_OPEN = 8 * 60 + 30  # minute of the day in exchange time
_ANY_DAY = date(2016, 1, 4)
_LEAST_BREAK = 25 * MINUTE_NS  # longer than the halt, shorter than the daily break
_LONGEST_BREAK = 120 * MINUTE_NS  # of a market that is open all day; a longer one is a weekend, or missing rows
_WEEKEND = 49 * 60 * MINUTE_NS  # from Friday's close to Sunday's opening
_WHOLE_DAY, _NIGHT = 20, 12  # hours
_FEW = 0.02  # of the sessions
_HALF_DAY = 720 * MINUTE_NS
_TOLERANCE = 6  # minutes


def zone_doubts(
    bars: pd.DataFrame, spacing: int, written: str, named: bool, instrument: Instrument
) -> tuple[list[Doubt], list[Doubt]]:
    """Doubts where sessions begin at another hour than the exchange's: those to stop for, and the others.

    bars: sorted by ts (UTC), with high and low. written: the zone that the stamps were read in; named: by the
    file. A few weeks among many that no zone explains are the source's fault: they are reported.
    """
    begins, ends, hours_open = _begins(nanoseconds(bars["ts"]), spacing)
    if len(begins) < 2:
        return [], []
    expected = _expected_begin(bars, begins, hours_open, instrument)
    if expected is None:
        return [], []
    off = _off(minute_of_day(begins), expected)
    end = minute_of_day(ends)
    weeks = _weeks_off(begins, off, whole=off == _off(end, int(np.median(end))))
    if not len(weeks):
        return [], []
    share, zone = _likeliest(begins, expected, written)
    words = _words(begins, off, weeks, expected, None if named else written)
    fits = share >= 0.9 and zone != written
    more = " and write the stamps without a zone, or export them anew" if named else ""
    cure = f"they fit {zone}: set ingest.naive_timezone={zone}{more}" if fits else "no usual zone makes all weeks fit"
    found = [as_doubt("time zone", len(weeks), **words, cure=cure)]
    few = share <= (off == 0).mean() and (off != 0).mean() < _FEW
    return ([], found) if few else (found, [])


def _begins(stamp: np.ndarray, spacing: int) -> tuple[np.ndarray, np.ndarray, float]:
    """First bar (ns) after the longest silence of each day, the last one before the next, and the usual hours between.

    Where trade goes on all day, silences longer than its break that are no weekend are left out: rows are missing.
    """
    stamp = distinct(stamp)
    gap = np.diff(stamp) - spacing * MINUTE_NS
    rows = np.flatnonzero(gap >= _LEAST_BREAK)
    at, size = stamp[rows + 1], gap[rows]
    first, last = np.searchsorted(at, at - _HALF_DAY), np.searchsorted(at, at + _HALF_DAY)
    longest = [k for k in range(len(at)) if size[k] == size[first[k] : last[k]].max()]
    if len(longest) < 2:
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64), 0.0
    begins, silence = at[longest], size[longest]
    ends = np.append((begins - silence)[1:], stamp[-1] + spacing * MINUTE_NS)
    hours_open = float(np.median((ends - begins)[:-1])) / (60 * MINUTE_NS)
    told = (silence <= _LONGEST_BREAK) | (np.abs(silence - _WEEKEND) <= _LONGEST_BREAK) | (hours_open < _WHOLE_DAY)
    return begins[told], ends[told], hours_open


def _expected_begin(bars: pd.DataFrame, begins: np.ndarray, hours_open: float, instrument: Instrument) -> int | None:
    """When the sessions of such a file begin (minute of the day in exchange time); None where it cannot be told.

    A file without the day begins in the evening at a full hour. The day's trade alone is known by its length, to 15:00,
    15:15, 15:30 or 16:00, by the half hour at which it begins, and by its first quarter of an hour, which is wider than
    most. Other hours are known to be wrong where the widest quarter is.
    """
    begin = int(np.median(minute_of_day(begins)))
    evening = abs(begin - 30) % 60 >= 24 and 15 * 60 < begin < 21 * 60 and hours_open >= _NIGHT
    if hours_open >= _WHOLE_DAY or evening:
        zone, hour = instrument.date_change
        reopening = pd.Timestamp.combine(_ANY_DAY, hour).tz_localize(zone).tz_convert(EXCHANGE_TIMEZONE)
        return int(reopening.hour * 60 + reopening.minute)
    quarter = _quarters(bars)
    if np.abs(hours_open - np.array([6.5, 6.75, 7.0, 7.5])).min() > 0.1 or abs(begin % 60 - 30) > 5:
        late = _widest_late(quarter) if instrument.calendar == INDEX_FUTURES else 0
        return (begin - late) % 1440 if late else None
    return CASH_OPEN if quarter.get(begin // 15, 0) > quarter.median() else None


def _quarters(bars: pd.DataFrame) -> pd.Series:
    """Usual range (log) of a bar in each quarter of an hour of the day, by its number; bars of a bar in most days."""
    newest = bars.iloc[-200_000:]
    wide = pd.Series(np.log(newest["high"].to_numpy() / newest["low"].to_numpy()))
    key = [nanoseconds(newest["ts"]) // DAY_NS, minute_of_day(newest["ts"]) // 15]
    by_day = wide.groupby(key).mean().unstack()
    return by_day.loc[:, by_day.notna().mean() > 0.5].median()


def _widest_late(quarter: pd.Series) -> int:
    """By how many minutes, in whole hours, the quarter that is most wider than the one before comes after 08:30.

    0 where it is not twice as wide, or the file's first and not at a half hour. Where a file ends before 08:30 it is
    another one.
    """
    if not len(quarter):
        return 0
    before = quarter.reindex(quarter.index - 1).fillna(0.0).to_numpy()
    row = int(np.argmax(quarter.to_numpy() - before))
    widest, right = int(np.asarray(quarter.index)[row]), CASH_OPEN // 15
    clear = quarter.iloc[row] > 2 * before[row] if before[row] else widest % 4 == right % 4
    late = (widest - right) * 15
    return late if clear and late % 60 == 0 and (late > 0 or right in quarter.index) else 0


def _off(minute: np.ndarray, expected: int) -> np.ndarray:
    """Minutes by which each session begins late (negative: early), in half hours; 0 within the tolerance."""
    late = (minute - expected + 720) % 1440 - 720
    half_hours = np.round(late / 30).astype(int) * 30
    return np.where(np.abs(late - half_hours) <= _TOLERANCE, half_hours, 0)


def _weeks_off(begins: np.ndarray, off: np.ndarray, whole: np.ndarray) -> pd.DatetimeIndex:
    """First sessions of the weeks of which most sessions, three at least, begin at one and the same other hour.

    Two do where none begins when it should, since a contract that dies trades too little to tell more of them, and
    one that ends as much later as it begins (whole) does. Where no week has three, all sessions count together.
    """
    week = (begins // DAY_NS + 4) // 7  # from Sunday on
    if np.bincount(week - week[0]).max() < 3:
        week = np.zeros_like(week)
    least = 2 if len(begins) < 5 else 3
    table = pd.DataFrame({"week": week, "off": off, "begin": begins, "right": off == 0, "whole": whole})
    count = (
        table.groupby(["week", "off"])
        .agg(size=("begin", "size"), min=("begin", "min"), whole=("whole", "sum"))
        .reset_index()
    )
    of_week = table.groupby("week")["right"].agg(["size", "sum"]).loc[count["week"]].reset_index(drop=True)
    enough = count["size"] >= np.where(of_week["sum"] == 0, 2, least)
    most = count[(count["off"] != 0) & (enough & (count["size"] > 0.5 * of_week["size"]) | (count["whole"] > 0))]
    return pd.DatetimeIndex(most["min"].sort_values(), tz="UTC").as_unit("ns")


def _words(
    begins: np.ndarray, off: np.ndarray, weeks: pd.DatetimeIndex, expected: int, declared: str | None
) -> dict[str, Any]:
    """When sessions begin instead of when, and in how many weeks."""
    wrong = int(off[begins == weeks[0].value][0])
    begin, after = (clock(minute) for minute in (expected, (expected + wrong) % 1440))
    which = "all weeks" if (off != 0).mean() > 0.9 else f"{len(weeks)} of them, the first from {weeks[0]:%Y-%m-%d}"
    read = f"read in {declared}" if declared else "whose zone the file names"
    return {"which": which, "after": after, "begin": begin, "hours": abs(wrong) / 60, "read": read}


def clock(minute: int) -> str:
    """A minute of the day as 08:30."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _likeliest(begins: np.ndarray, expected: int, zone_written: str) -> tuple[float, str]:
    """The largest share of sessions that begin when they should in a usual zone, and the zone."""
    written = _as_written(begins, zone_written)
    shares = []
    for zone in USUAL_ZONES:
        name, hours = zone_and_hours(zone)
        naive: Any = pd.Series(written - pd.Timedelta(hours=hours))
        moved = naive.dt.tz_localize(name, ambiguous=[True] * len(naive), nonexistent="shift_forward").dt.tz_convert(
            "UTC"
        )
        shares.append(float((_off(minute_of_day(moved), expected) == 0).mean()))
    best = int(np.argmax(shares))
    return shares[best], USUAL_ZONES[best]


def _as_written(stamp: np.ndarray, zone: str) -> pd.DatetimeIndex:
    """Stamps (ns, UTC) as they stand in the file."""
    name, hours = zone_and_hours(zone)
    return pd.DatetimeIndex(stamp, tz="UTC").tz_convert(name).tz_localize(None) + pd.Timedelta(hours=hours)

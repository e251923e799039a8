"""The time zone of a file, proved by the market's own rhythm, week by week.

Trade stops once a day and comes back at 17:00 exchange time. Of a file of other hours the widths of its bars over the
day tell: they are alike in all years. Stamps in another zone move them, for all weeks or for those in which two zones
disagree.
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
from nqcast.market.instruments import Instrument
from nqcast.market.tables import USUAL_ZONES, read_table

CASH_OPEN = 8 * 60 + 30  # minute of the day in exchange time
_ANY_DAY = date(2016, 1, 4)
_LEAST_BREAK = 25 * MINUTE_NS  # longer than the halt, shorter than the daily break
_LONGEST_BREAK = 120 * MINUTE_NS  # of a market that is open all day; a longer one is a weekend, or missing rows
_WEEKEND = 49 * 60 * MINUTE_NS  # from Friday's close to Sunday's opening
_WHOLE_DAY = 20  # hours
_ZONES_APART = {1: 1.2, -1: 1.2, **dict.fromkeys((-8, -7, -6, -5, 5, 6, 7, 8), 1.7)}
"""Hours between Chicago and other zones, and how many times better the widths must fit them."""
_AT_THE_OPEN = 1.6
"""How many times better still where the file begins at 08:30 as it is, which speaks for it."""
_CLOSED, _LEAST_MISFIT = -1.5, 0.1
_FEWEST, _FEWEST_OF_MANY, _MANY_DAYS = 18, 6, 60
"""Quarters of an hour that tell: so many, or fewer whose widths many days have settled."""
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
    breaks = (silence <= _LONGEST_BREAK) | (np.abs(silence - _WEEKEND) <= _LONGEST_BREAK) | (hours_open < _WHOLE_DAY)
    return begins[breaks], ends[breaks], hours_open


def _expected_begin(bars: pd.DataFrame, begins: np.ndarray, hours_open: float, instrument: Instrument) -> int | None:
    """When the sessions of such a file begin (minute of the day in exchange time); None where it cannot be told.

    Trade of the whole day begins when the market reopens. A file of other hours should begin as many hours earlier as
    its bars' widths over the day say, or else at 08:30, if it does so nearly.
    """
    if hours_open >= _WHOLE_DAY:
        zone, hour = instrument.date_change
        reopening = pd.Timestamp.combine(_ANY_DAY, hour).tz_localize(zone).tz_convert(EXCHANGE_TIMEZONE)
        return int(reopening.hour * 60 + reopening.minute)
    begin = int(np.median(minute_of_day(begins)))
    at_the_open = abs(begin - CASH_OPEN) <= _TOLERANCE
    late = _hours_late(bars, instrument, _AT_THE_OPEN if at_the_open else 1.0)
    return (begin - 60 * late) % 1440 if late else CASH_OPEN if at_the_open else None


def _hours_late(bars: pd.DataFrame, instrument: Instrument, surer: float) -> int:
    """Hours by which the widths of bars over the day come later than the market's usual ones do.

    0 where none of the hours that zones are apart fits so many times, and `surer` times that, as well as none does, by
    the root of the mean squared difference of logs; 0 where the usual widths are not known.
    """
    usual = pd.Series(read_table("profiles").get(instrument.calendar), dtype=float).fillna(_CLOSED)
    width, days = _widths(bars)
    if not len(usual) or len(width) < (_FEWEST_OF_MANY if days >= _MANY_DAYS else _FEWEST):
        return 0
    apart = {hours: width - usual.to_numpy()[(width.index - 4 * hours) % 96] for hours in (0, *_ZONES_APART)}
    misfit = {hours: np.hypot(np.std(each), _LEAST_MISFIT) for hours, each in apart.items()}
    best = max(_ZONES_APART, key=lambda hours: misfit[0] / misfit[hours] / _ZONES_APART[hours])
    return best if misfit[0] > surer * _ZONES_APART[best] * misfit[best] else 0


def _widths(bars: pd.DataFrame) -> tuple[pd.Series, int]:
    """Log of the usual range of a bar in each quarter of an hour of the day, by its number, and of how many days."""
    newest = bars.iloc[-200_000:]
    wide = pd.Series(np.log(newest["high"].to_numpy() / newest["low"].to_numpy()))
    key = [nanoseconds(newest["ts"]) // DAY_NS, minute_of_day(newest["ts"]) // 15]
    by_day = wide.groupby(key).mean().unstack()
    usual = by_day.loc[:, by_day.notna().mean() > 0.5].median()  # of most days
    return np.log(usual[usual > 0]), len(by_day)


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
    """What the doubt's words lack: when sessions begin, when they should, and in which weeks."""
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

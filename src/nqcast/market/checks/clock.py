"""The time zone of a file, proved by the market's own rhythm, week by week.

Trade stops once a day and comes back at 17:00 exchange time; a file of the day's trade alone begins at 08:30, with the
widest bar of the day. Stamps in another zone move that instant, for all weeks or for those in which two zones disagree.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.calendar import distinct, minute_of_day, nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.config import zone_and_hours
from nqcast.market.schema import DAY_NS, MINUTE_NS
from nqcast.market.tables import USUAL_ZONES

REOPENING, CASH_OPEN = 17 * 60, 8 * 60 + 30  # minutes of the day in exchange time
_LEAST_BREAK = 25 * MINUTE_NS  # longer than the halt, shorter than the daily break
_LONGEST_BREAK = 120 * MINUTE_NS  # of a market that is open all day; a longer one is a weekend, or missing rows
_WHOLE_DAY = 20  # hours
_FEW = 0.02  # of the sessions
_HALF_DAY = 720 * MINUTE_NS
_TOLERANCE = 6  # minutes


def zone_doubts(bars: pd.DataFrame, spacing: int, declared: str | None) -> tuple[list[Doubt], list[Doubt]]:
    """Doubts where sessions begin at another hour than the exchange's: those to stop for, and the others.

    bars: sorted by ts (UTC), with high and low. declared: the zone that the stamps were read in; None where the file
    names it. A few weeks among many that no zone explains are the source's fault: they are reported.
    """
    begins, hours_open = _begins(nanoseconds(bars["ts"]), spacing)
    if len(begins) < 2:
        return [], []
    expected = _expected_begin(bars, begins, hours_open)
    if expected is None:
        return [], []
    off = _off(minute_of_day(begins), expected)
    weeks = _weeks_off(begins, off)
    if not len(weeks):
        return [], []
    share, zone = _likeliest(begins, expected, declared)
    words = _words(begins, off, weeks, expected, declared, zone if share >= 0.9 else None)
    found = [as_doubt("time zone", len(weeks), **words)]
    few = share <= (off == 0).mean() and (off != 0).mean() < _FEW
    return ([], found) if few else (found, [])


def _begins(stamp: np.ndarray, spacing: int) -> tuple[np.ndarray, float]:
    """First bar (ns) after the longest silence of each day, and the usual number of hours that follow until the next.

    Where trade goes on all day, silences longer than its break are left out: weekends, and rows that are missing.
    """
    stamp = distinct(stamp)
    gap = np.diff(stamp) - spacing * MINUTE_NS
    rows = np.flatnonzero(gap >= _LEAST_BREAK)
    at, size = stamp[rows + 1], gap[rows]
    first, last = np.searchsorted(at, at - _HALF_DAY), np.searchsorted(at, at + _HALF_DAY)
    longest = [k for k in range(len(at)) if size[k] == size[first[k] : last[k]].max()]
    if len(longest) < 2:
        return np.empty(0, dtype=np.int64), 0.0
    begins, silence = at[longest], size[longest]
    hours_open = float(np.median(np.diff(begins) - silence[1:])) / (60 * MINUTE_NS)
    return (begins[silence <= _LONGEST_BREAK] if hours_open >= _WHOLE_DAY else begins), hours_open


def _expected_begin(bars: pd.DataFrame, begins: np.ndarray, hours_open: float) -> int | None:
    """When the sessions of such a file begin (minute of the day in exchange time); None where it cannot be told.

    The day's trade alone is known by its length, to 15:00, 15:15, 15:30 or 16:00, by the half hour at which it begins,
    and by its first quarter of an hour, which is wider than most.
    """
    if hours_open >= _WHOLE_DAY:
        return REOPENING
    begin = int(np.median(minute_of_day(begins)))
    if np.abs(hours_open - np.array([6.5, 6.75, 7.0, 7.5])).min() > 0.1 or abs(begin % 60 - 30) > 5:
        return None
    newest = bars.iloc[-200_000:]
    minute = minute_of_day(newest["ts"])
    wide = np.log(newest["high"].to_numpy() / newest["low"].to_numpy())
    opening = (minute >= begin) & (minute < begin + 15)
    return CASH_OPEN if opening.any() and wide[opening].mean() > wide[~opening].mean() else None


def _off(minute: np.ndarray, expected: int) -> np.ndarray:
    """Minutes by which each session begins late (negative: early), in half hours; 0 within the tolerance."""
    late = (minute - expected + 720) % 1440 - 720
    half_hours = np.round(late / 30).astype(int) * 30
    return np.where(np.abs(late - half_hours) <= _TOLERANCE, half_hours, 0)


def _weeks_off(begins: np.ndarray, off: np.ndarray) -> pd.DatetimeIndex:
    """First sessions of the weeks of which most sessions, three at least, begin at one and the same other hour.

    Two do where none begins when it should: a contract that dies trades too little to tell more of them. Where no week
    has three, all sessions count together.
    """
    week = (begins // DAY_NS + 3) // 7
    if np.bincount(week - week[0]).max() < 3:
        week = np.zeros_like(week)
    least = 2 if len(begins) < 5 else 3
    table = pd.DataFrame({"week": week, "off": off, "begin": begins, "right": off == 0})
    count = table.groupby(["week", "off"])["begin"].agg(["size", "min"]).reset_index()
    of_week = table.groupby("week")["right"].agg(["size", "sum"]).loc[count["week"]].reset_index(drop=True)
    enough = count["size"] >= np.where(of_week["sum"] == 0, 2, least)
    most = count[(count["off"] != 0) & enough & (count["size"] > 0.5 * of_week["size"])]
    return pd.DatetimeIndex(most["min"].sort_values(), tz="UTC").as_unit("ns")


def _words(
    begins: np.ndarray, off: np.ndarray, weeks: pd.DatetimeIndex, expected: int, declared: str | None, zone: str | None
) -> dict[str, Any]:
    """When sessions begin instead of when, in how many weeks, and the zone in which they would not."""
    wrong = int(off[begins == weeks[0].value][0])
    begin, after = (clock(minute) for minute in (expected, (expected + wrong) % 1440))
    which = "all weeks" if (off != 0).mean() > 0.9 else f"{len(weeks)} of them, the first from {weeks[0]:%Y-%m-%d}"
    found = {"which": which, "after": after, "begin": begin, "hours": abs(wrong) / 60}
    found["read"] = f"read in {declared}" if declared else "whose zone the file names"
    if zone in (None, declared or "UTC"):
        return {**found, "cure": "no usual zone makes all weeks fit"}
    more = "" if declared else " and write the stamps without a zone, or export them anew"
    return {**found, "cure": f"they fit {zone}: set ingest.naive_timezone={zone}{more}"}


def clock(minute: int) -> str:
    """A minute of the day as 08:30."""
    return f"{minute // 60:02d}:{minute % 60:02d}"


def _likeliest(begins: np.ndarray, expected: int, declared: str | None) -> tuple[float, str]:
    """The largest share of sessions that begin when they should in a usual zone, and the zone."""
    written = _as_written(begins, declared or "UTC")
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

"""Doubts about time stamps that are all valid: ends of bars instead of starts, day and month exchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.market.calendar import instants, minute_of_day, nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.checks.clock import CASH_OPEN, clock
from nqcast.market.config import zone_and_hours
from nqcast.market.schema import DAY_NS, MINUTE_NS

_FEWEST = 4  # sessions that make a part of a file


def exchanged_days(ts: pd.Series, zone: str | None) -> list[Doubt]:
    """Dates whose day and month were exchanged on the way: out of order as they stand, in order once set back.

    ts: the stamps (UTC) in the file's own order; zone: the one that they are written in, where the file names none.
    """
    if ts.is_monotonic_increasing:
        return []
    written = ts.dropna()
    name, hours = zone_and_hours(zone or "UTC")
    stamp = nanoseconds(written.dt.tz_convert(name).dt.tz_localize(None)) + hours * 60 * MINUTE_NS
    disorder = int((np.diff(stamp) < 0).sum())
    if not disorder:
        return []
    day = stamp // DAY_NS
    dates, code = np.unique(day, return_inverse=True)
    index = pd.DatetimeIndex(dates * DAY_NS)
    early = index.day <= 12
    other = pd.to_datetime({"year": index.year[early], "month": index.day[early], "day": index.month[early]})
    exchanged = dates.copy()
    exchanged[early] = nanoseconds(other) // DAY_NS
    repaired = int((np.diff(exchanged[code] * DAY_NS + stamp % DAY_NS) < 0).sum())
    if repaired > 0.2 * disorder or early.all():
        return []
    count = int((exchanged != dates)[code].sum())
    example = index[np.flatnonzero(exchanged != dates)[0]].date()
    return [as_doubt("day and month exchanged", count, n=count, day=example)]


def end_stamps(ts: pd.Series, sessions: pd.DataFrame, spacing: int) -> list[Doubt]:
    """Stamps that mark the END of a bar, in all or in a part of the sessions: a bar at their close, none at their open.

    Where a file holds the day's trade alone, from 08:30 exchange time on, its first stamps tell instead.
    """
    stamp = nanoseconds(ts)
    opens, closes = nanoseconds(sessions["open"]), nanoseconds(sessions["close"])
    begin = np.searchsorted(stamp, opens)
    inside = np.searchsorted(stamp, closes) - begin > 0
    if not inside.any():
        return []
    edges = (opens, closes, closes + spacing * MINUTE_NS)
    at_open, at_close, later = (_among(edge[inside], stamp) for edge in edges)
    ended = np.flatnonzero(at_close & ~at_open & ~later)  # later: another zone's stamps
    half, cure = 0.5 * inside.sum(), f"set ingest.stamps=end (a stamp is then moved {spacing} min back)"
    if 1 < len(ended) < 0.8 * inside.sum():
        cure = "other sessions have stamps of beginnings; export the file anew with one of the two"
    late_open = CASH_OPEN + spacing
    after_cash_open = int((minute_of_day(stamp[begin[inside]]) == late_open).sum())
    at_edge = len(ended) > 1 and (ended[0] == 0 or ended[-1] >= inside.sum() - 2)  # the last one may be cut
    if len(ended) > half or (len(ended) >= (2 if at_edge else _FEWEST) and len(ended) > 0.9 * (np.ptp(ended) + 1)):
        count, when = len(ended), sessions["session"][inside].iloc[ended[0]].date()
        found = f"a bar stamped at their close and none at their open, the first on {when}"
    elif after_cash_open > half:
        count, found = after_cash_open, f"their first bar stamped {clock(late_open)} exchange time"
    else:
        return []
    return [as_doubt("time stamps of bar ends", count, n=count, total=int(inside.sum()), found=found, cure=cure)]


def mixed_spacing(ts: pd.Series, spacing: int) -> tuple[list[Doubt], pd.Timestamp | None]:
    """A doubt where parts of a file have another spacing, and the stamp from which on it has its newest one.

    A part is four hours in which four steps in five are alike; stretches of thin trade have steps of all sizes.
    """
    stamp = instants(ts)
    step = np.diff(stamp) // MINUTE_NS
    block = stamp[:-1] // (240 * MINUTE_NS)
    first = np.flatnonzero(np.diff(block, prepend=-1))
    size = np.diff(np.append(first, len(step)))
    of_block: dict[int, np.ndarray] = (
        {minutes: np.add.reduceat(step == minutes, first) > 0.8 * size for minutes in (1, 2, 3, 5, 10, 15, 30)}
        if len(step)
        else {}
    )
    minutes = np.select(list(of_block.values()), list(of_block), 0) if of_block else np.empty(0)
    told = np.flatnonzero((minutes > 0) & (size >= 6))
    other = told[minutes[told] != spacing]
    if len(other) < 2:
        return [], None
    changes = told[np.flatnonzero(np.diff(minutes[told])) + 1]
    old, new = minutes[told[np.flatnonzero(np.diff(minutes[told]))[-1]]], minutes[told[-1]]
    start = stamp[_change(step, old, new, first[told[told < changes[-1]][-1]], first[changes[-1]] + size[changes[-1]])]
    dates = [f"{pd.Timestamp(stamp[first[k]]).date()} ({int(minutes[k])}-minute)" for k in (told[0], *changes[:4])]
    alike, count = (int(size[rows].sum()) for rows in (told[minutes[told] == spacing], other))
    found = {"alike": alike, "spacing": spacing, "other": count, "dates": ", from ".join(dates)}
    return [as_doubt("mixed spacing", count, **found)], pd.Timestamp(start, tz="UTC")


def _change(step: np.ndarray, old: int, new: int, first: int, stop: int) -> int:
    """The row in [first, stop) that has most steps of the old spacing before it and of the new one after it."""
    part = step[first:stop]
    return int(first + np.argmax(np.cumsum((part == old).astype(int) - (part == new)))) + 1


def _among(wanted: np.ndarray, sorted_: np.ndarray) -> np.ndarray:
    """Which of the wanted numbers (M,) a sorted array holds."""
    place = np.minimum(np.searchsorted(sorted_, wanted), len(sorted_) - 1)
    return sorted_[place] == wanted

"""Doubts about time stamps that are all valid: ends of bars instead of starts, day and month exchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, MINUTE_NS
from nqcast.market.calendar import instants, minute_of_day, nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.checks.clock import CASH_OPEN, clock
from nqcast.market.config import zone_and_hours
from nqcast.market.instruments import INDEX_FUTURES, Instrument

_FEWEST = 4  # sessions that make a part of a file
_HOUR, _HOURS_IN_A_ROW = 60, 3
_BLOCKS = {60: (8, (1, 2, 3, 4, 5, 6)), 240: (6, (10, 12, 15, 20, 30))}
"""Minutes in which a spacing is looked for, the fewest steps in them, and the spacings."""


def exchanged_days(ts: pd.Series, zone: str) -> list[Doubt]:
    """Dates whose day and month were exchanged on the way: out of order as they stand, in order once set back.

    ts: the stamps (UTC) in the file's own order; zone: the one that they are written in.
    """
    if ts.is_monotonic_increasing:
        return []
    written = ts.dropna()
    name, hours = zone_and_hours(zone)
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


def end_stamps(
    ts: pd.Series, sessions: pd.DataFrame, spacing: int, instrument: Instrument, moved: bool = False
) -> list[Doubt]:
    """Stamps that mark the END of a bar, in all or in a part of the sessions: a bar at their close, none at their open.

    Several sessions in a row tell it, and of index futures, which seldom miss their opening minute, half of all.

    Where a file holds the day's trade alone, from 08:30 exchange time on, its first stamps tell instead. Stamps that
    were moved a bar back, since they were said to mark ends, are asked the reverse as they stand in the file.
    """
    stamp = nanoseconds(ts) + moved * spacing * MINUTE_NS
    opens, closes = nanoseconds(sessions["open"]), nanoseconds(sessions["close"])
    begin = np.searchsorted(stamp, opens)
    inside = np.searchsorted(stamp, closes) - begin > 0
    if not inside.any():
        return []
    edges = (opens, closes, closes + spacing * MINUTE_NS)
    at_open, at_close, later = (_among(edge[inside], stamp) for edge in edges)
    wrong = at_open & ~at_close if moved else at_close & ~at_open & ~later  # later: another zone's stamps
    ended = np.flatnonzero(wrong)
    half, cure = 0.5 * inside.sum(), f"set ingest.stamps=end (a stamp is then moved {spacing} min back)"
    if 1 < len(ended) < 0.8 * inside.sum():
        cure = "other sessions have stamps of beginnings; export the file anew with one of the two"
    late_open = CASH_OPEN + spacing * (not moved)
    after_cash_open = int((minute_of_day(stamp[begin[inside]]) == late_open).sum())
    at_edge = len(ended) > 1 and (ended[0] == 0 or ended[-1] >= inside.sum() - 2)  # the last one may be cut
    fewest = 2 if at_edge and (at_close if moved else at_open).any() else _FEWEST
    often = instrument.calendar == INDEX_FUTURES and len(ended) > half
    if often or (len(ended) >= fewest and len(ended) > 0.8 * (np.ptp(ended) + 1)):
        count, when = len(ended), sessions["session"][inside].iloc[ended[0]].date()
        edges_found = ("open", "close") if moved else ("close", "open")
        found = "a bar stamped at their {} and none at their {}, the first on {}".format(*edges_found, when)
    elif after_cash_open > half:
        count, found = after_cash_open, f"their first bar stamped {clock(late_open)} exchange time"
    else:
        return []
    kind = "time stamps of bar ends" + moved * "/beginnings"
    return [as_doubt(kind, count, n=count, total=int(inside.sum()), found=found, cure=cure)]


def mixed_spacing(ts: pd.Series, spacing: int) -> tuple[list[Doubt], pd.Timestamp | None]:
    """A doubt where parts of a file have another spacing, and the stamp from which on it has its newest one."""
    stamp = instants(ts)
    minute = (stamp // MINUTE_NS).astype(np.int32)
    step = np.diff(minute)
    first, size, minutes = _parts(minute, step)
    other = minutes != spacing
    if other.sum() < 2 and not (minutes >= _HOUR).any():
        return [], None
    changes = np.flatnonzero(np.diff(minutes)) + 1
    if not len(changes):
        return [], None
    last = changes[-1]
    row = _change(step, minutes[last - 1], minutes[last], first[last - 1], first[last] + size[last])
    if step[row] != minutes[last]:  # the last bar of the old spacing before a gap
        row += 1
    dates = [f"{pd.Timestamp(stamp[first[k]]).date()} ({minutes[k]}-minute)" for k in (0, *changes[:4])]
    found = {
        "alike": size[~other].sum(),
        "spacing": spacing,
        "other": size[other].sum(),
        "dates": ", from ".join(dates),
    }
    return [as_doubt("mixed spacing", int(size[other].sum()), **found)], pd.Timestamp(stamp[row], tz="UTC")


def _parts(minute: np.ndarray, step: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """First row, number of rows and spacing of the parts of a file whose spacing can be told, in order.

    A part is one hour, or four, in which four steps in five are alike, or three steps of hours or days in a row:
    stretches of thin trade have steps of all sizes.
    """
    change = np.flatnonzero(np.diff(step, prepend=-1))
    length = np.diff(np.append(change, len(step)))
    long = (step[change] >= _HOUR) & (length >= _HOURS_IN_A_ROW)
    parts = [np.stack([change[long], length[long], step[change[long]]])]
    short = np.minimum(step, _HOUR).astype(np.uint8)
    often = np.bincount(short, minlength=_HOUR + 1)
    for block, (least, candidates) in _BLOCKS.items():
        first = np.flatnonzero(np.diff(minute[:-1] // block, prepend=-1))
        size = np.diff(np.append(first, len(step)))
        for minutes in (each for each in candidates if often[each] >= least):
            clear = (np.add.reduceat(short == minutes, first, dtype=np.int16) > 0.8 * size) & (size >= least)
            parts.append(np.stack([first[clear], size[clear], np.full(clear.sum(), minutes)]))
    first, size, minutes = np.concatenate(parts, axis=1)
    order = np.argsort(first, kind="stable")
    return first[order], size[order], minutes[order]


def _change(step: np.ndarray, old: int, new: int, first: int, stop: int) -> int:
    """The row in [first, stop) that has most steps of the old spacing before it and of the new one after it."""
    part = step[first:stop]
    return int(first + np.argmax(np.cumsum((part == old).astype(int) - (part == new)))) + 1


def _among(wanted: np.ndarray, sorted_: np.ndarray) -> np.ndarray:
    """Which of the wanted numbers (M,) a sorted array holds."""
    place = np.minimum(np.searchsorted(sorted_, wanted), len(sorted_) - 1)
    return sorted_[place] == wanted

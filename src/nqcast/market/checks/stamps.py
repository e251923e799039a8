"""Doubts about time stamps that are all valid: ends of bars instead of starts, day and month exchanged."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.market.calendar import nanoseconds
from nqcast.market.checks.series import Doubt, as_doubt
from nqcast.market.schema import MINUTE_NS

_DAY_NS = 1440 * MINUTE_NS
_CASH_OPEN = 8 * 60 + 30  # minute of the day in exchange time


def exchanged_days(ts: pd.Series) -> list[Doubt]:
    """Dates whose day and month were exchanged on the way: out of order as they stand, in order once set back.

    ts: the stamps as the file has them, in its own order and zone.
    """
    written = ts.dropna()
    stamp = nanoseconds(written.dt.tz_localize(None) if written.dt.tz is not None else written)
    disorder = int((np.diff(stamp) < 0).sum())
    if not disorder:
        return []
    day = stamp // _DAY_NS
    dates, code = np.unique(day, return_inverse=True)
    index = pd.DatetimeIndex(dates * _DAY_NS)
    early = index.day <= 12
    other = pd.to_datetime({"year": index.year[early], "month": index.day[early], "day": index.month[early]})
    exchanged = dates.copy()
    exchanged[early] = nanoseconds(other) // _DAY_NS
    repaired = int((np.diff(exchanged[code] * _DAY_NS + stamp % _DAY_NS) < 0).sum())
    if repaired > 0.2 * disorder or early.all():
        return []
    count = int((exchanged != dates)[code].sum())
    example = index[np.flatnonzero(exchanged != dates)[0]].date()
    text = f"{count} rows, such as those of {example}, are in order of time only once day and month are exchanged"
    return [as_doubt("day and month exchanged", count, f"{text}: export the dates anew as 2016-09-28")]


def end_stamps(ts: pd.Series, sessions: pd.DataFrame, spacing: int) -> list[Doubt]:
    """Stamps that mark the END of a bar: sessions have a bar at their close and none at their open.

    Where a file holds the day's trade alone, from 08:30 exchange time on, its first stamps tell instead.
    """
    stamp = nanoseconds(ts)
    opens, closes = nanoseconds(sessions["open"]), nanoseconds(sessions["close"])
    begin = np.searchsorted(stamp, opens)
    inside = np.searchsorted(stamp, closes) - begin > 0
    if not inside.any():
        return []
    edges = (opens, closes, closes + spacing * MINUTE_NS)
    at_open, at_close, later = (int(_among(edge[inside], stamp).sum()) for edge in edges)
    half, cure = 0.5 * inside.sum(), f"set ingest.stamps=end (a stamp is then moved {spacing} min back)"
    first = pd.DatetimeIndex(stamp[begin[inside]], tz="UTC").tz_convert(EXCHANGE_TIMEZONE)
    after_cash_open = int((first.hour * 60 + first.minute == _CASH_OPEN + spacing).sum())
    if at_close > half and max(at_open, later) < half:  # later: another zone's stamps
        found = f"have a bar stamped at their close, {at_open} one at their open"
    elif after_cash_open > half:
        at_close, found = after_cash_open, f"have their first bar stamped {first[0]:%H:%M} exchange time"
    else:
        return []
    text = f"{at_close} of {int(inside.sum())} sessions {found}: the stamps mark the END of a bar; {cure}"
    return [as_doubt("time stamps of bar ends", at_close, text)]


def _among(wanted: np.ndarray, sorted_: np.ndarray) -> np.ndarray:
    """Which of the wanted numbers (M,) a sorted array holds."""
    place = np.minimum(np.searchsorted(sorted_, wanted), len(sorted_) - 1)
    return sorted_[place] == wanted

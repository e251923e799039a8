"""Groups of anchors by which a score can be split: part of the session, weekday, and volatility."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.evaluation.metrics import Floats

SESSION_PARTS = (
    ("Asia (17:00–02:00)", 0, 120),
    ("Europe (02:00–08:30)", 120, 510),
    ("US morning (08:30–12:00)", 510, 720),
    ("US afternoon (12:00–17:00)", 720, 1020),
    ("Asia (17:00–02:00)", 1020, 1440),
)
PARTS = tuple(dict.fromkeys(name for name, _, _ in SESSION_PARTS))
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TERCILES = ("calm third", "middle third", "wild third")


def session_part(ts: pd.Series) -> NDArray[np.object_]:
    """Part of the session (N,) in which each bar starts, by exchange time."""
    local = pd.DatetimeIndex(ts).tz_convert(EXCHANGE_TIMEZONE)
    minute = (local.hour * 60 + local.minute).to_numpy()
    names = np.empty(len(minute), dtype=object)
    for name, first, end in SESSION_PARTS:
        names[(minute >= first) & (minute < end)] = name
    return names


def weekday(session: pd.Series) -> NDArray[np.object_]:
    """Weekday (N,) of each anchor's trading date."""
    return np.array(WEEKDAYS, dtype=object)[pd.DatetimeIndex(session).day_of_week.to_numpy()]


def volatility_tercile(volatility_N: Floats) -> NDArray[np.object_]:
    """Third (N,) of the anchors by a volatility that was known when the forecast was made."""
    rank = np.argsort(np.argsort(volatility_N, kind="stable"), kind="stable")
    return np.array(TERCILES, dtype=object)[3 * rank // max(len(rank), 1)]

"""The clock of a bar, in exchange time: the 08:30 opening is the same slot in summer and in winter."""

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, EXCHANGE_TIMEZONE, MINUTE_NS
from nqcast.spacing import Spacing

_FIVE_MINUTES = Spacing()


def exchange_time(ts: pd.Series) -> np.ndarray:
    """Local wall-clock time of UTC stamps at the exchange, as datetime64[ns] without a zone."""
    return ts.dt.tz_convert(EXCHANGE_TIMEZONE).dt.tz_localize(None).to_numpy().astype("datetime64[ns]")


def utc_nanoseconds(ts: pd.Series) -> np.ndarray:
    """UTC stamps as int64 nanoseconds since 1970, whatever unit the column keeps."""
    return ts.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)


def clock_columns(ts: pd.Series, spacing: Spacing = _FIVE_MINUTES) -> dict[str, np.ndarray]:
    """bar_in_day (0–287 of five minutes), day_of_week (Monday 0), day_of_month (1–31) and day_of_year (1–366), int64.

    All four are read off the exchange's wall clock at the START of the bar (`ts`, UTC). The calendar is asked once a
    day, not once a bar.
    """
    local = exchange_time(ts)
    since_epoch, nanoseconds = np.divmod(local.astype(np.int64), DAY_NS)
    first, offset = int(since_epoch.min(initial=0)), since_epoch - since_epoch.min(initial=0)
    day = np.arange(first, first + int(offset.max(initial=0)) + 1).astype("datetime64[D]")
    return {
        "bar_in_day": nanoseconds // (spacing.minutes * MINUTE_NS),
        "day_of_week": (since_epoch + 3) % 7,  # 1970-01-01 was a Thursday
        "day_of_month": _days_since(day, "M")[offset],
        "day_of_year": _days_since(day, "Y")[offset],
    }


def _days_since(day: np.ndarray, unit: str) -> np.ndarray:
    """Which day of its month or year a day is, from 1."""
    begin = day.astype(f"datetime64[{unit}]").astype("datetime64[D]")
    return (day - begin).astype(np.int64) + 1

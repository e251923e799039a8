"""The clock of a bar, in exchange time: the 08:30 opening is the same slot in summer and in winter."""

import numpy as np
import pandas as pd

from nqcast.data.config import BAR_MINUTES, EXCHANGE_TIMEZONE


def exchange_time(ts: pd.Series) -> np.ndarray:
    """Local wall-clock time of UTC stamps at the exchange, as datetime64[ns] without a zone."""
    return ts.dt.tz_convert(EXCHANGE_TIMEZONE).dt.tz_localize(None).to_numpy().astype("datetime64[ns]")


def utc_nanoseconds(ts: pd.Series) -> np.ndarray:
    """UTC stamps as int64 nanoseconds since 1970, whatever unit the column keeps."""
    return ts.dt.tz_convert("UTC").dt.tz_localize(None).to_numpy().astype("datetime64[ns]").astype(np.int64)


def add_clock(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with bar_in_day (0–287), day_of_week (Monday 0), day_of_month (1–31) and day_of_year (1–366).

    All four are read off the exchange's wall clock at the START of the bar (column ts, UTC).
    """
    local = exchange_time(frame["ts"])
    day = local.astype("datetime64[D]")
    minute = (local - day).astype("timedelta64[m]").astype(np.int64)
    since_epoch = day.astype(np.int64)
    return frame.assign(
        bar_in_day=minute // BAR_MINUTES,
        day_of_week=(since_epoch + 3) % 7,  # 1970-01-01 was a Thursday
        day_of_month=since_epoch - day.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64) + 1,
        day_of_year=since_epoch - day.astype("datetime64[Y]").astype("datetime64[D]").astype(np.int64) + 1,
    )

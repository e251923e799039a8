"""Targets: the log return from a bar's close to the close Δ later by the clock, inside the same session."""

import numpy as np
import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import BAR_MINUTES, HORIZONS

_MINUTE = 60_000_000_000  # nanoseconds


def add_targets(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` (ts, session, close, halt, unadjusted) with the five targets, natural log returns.

    A target is NaN where the session has no bar Δ later, where every bar of the horizon lies in a halt, and
    where the return would run across a roll that could not be adjusted. The row Δ later is found by its time stamp,
    never by counting rows.
    """
    ts = utc_nanoseconds(frame["ts"])
    session = frame["session"].to_numpy()
    log_close = np.log(frame["close"].to_numpy(np.float64))
    halted, breaks = (np.cumsum(frame[name].to_numpy(), dtype=np.int64) for name in ("halt", "unadjusted"))
    columns = {}
    for name, minutes in HORIZONS.items():
        end = _row_later(ts, minutes)
        rows = end - np.arange(len(ts))
        defined = (ts[end] - ts == minutes * _MINUTE) & (session[end] == session)
        defined &= (halted[end] - halted < rows) & (breaks[end] == breaks)
        columns[f"target_{name}"] = np.where(defined, log_close[end] - log_close, np.nan)
    return frame.assign(**columns)


def _row_later(ts: np.ndarray, minutes: int) -> np.ndarray:
    """First row at or after `minutes` later (the last row where there is none)."""
    guess = np.arange(len(ts)) + minutes // BAR_MINUTES
    np.minimum(guess, len(ts) - 1, out=guess)
    wrong = ts[guess] != ts + minutes * _MINUTE
    guess[wrong] = np.searchsorted(ts, ts[wrong] + minutes * _MINUTE)
    return np.minimum(guess, len(ts) - 1)

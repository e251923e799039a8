"""Targets: the log return from a bar's close to the close Δ later by the clock, inside the same session."""

from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES, HORIZONS
from nqcast.data.clock import utc_nanoseconds

_MINUTE = 60_000_000_000  # nanoseconds


def target_columns(frame: pd.DataFrame) -> dict[str, np.ndarray]:
    """The five targets of `frame` (ts, session, close, halt, unadjusted), natural log returns.

    A target is NaN where the session has no bar Δ later, where every bar of the horizon lies in a halt, and
    where the return would run across a roll that could not be adjusted. The row Δ later is found by its time stamp,
    never by counting rows.
    """
    ts, path = utc_nanoseconds(frame["ts"]), _Path(frame)
    return {f"target_{name}": _target(ts, path, minutes) for name, minutes in HORIZONS.items()}


def _target(ts: np.ndarray, path: "_Path", minutes: int) -> np.ndarray:
    later, bars = minutes * _MINUTE, minutes // BAR_MINUTES
    rows = max(len(ts) - bars, 0)
    start, end = slice(0, rows), slice(len(ts) - rows, None)
    target = np.full(len(ts), np.nan)
    on_grid = np.zeros(len(ts), dtype=bool)
    on_grid[start] = ts[end] - ts[start] == later  # almost everywhere a row offset is a clock offset
    target[start] = np.where(on_grid[start], path.returns(start, end, bars), np.nan)
    rest = np.flatnonzero(~on_grid)
    found = np.minimum(np.searchsorted(ts, ts[rest] + later), len(ts) - 1)
    exact = ts[found] - ts[rest] == later
    rest, found = rest[exact], found[exact]
    target[rest] = path.returns(rest, found, found - rest)
    return target


def realized_volatility(frame: pd.DataFrame) -> np.ndarray:
    """Root of the realized variance over each target's own horizon (N, H), in return units; NaN where it is NaN.

    A label, as the targets are: it knows the bars after the row.
    """
    ts = utc_nanoseconds(frame["ts"])
    variance = np.concatenate([[0.0], np.cumsum(frame["realized_variance"].to_numpy(np.float64))])
    columns = []
    for name, minutes in HORIZONS.items():
        end = np.minimum(np.searchsorted(ts, ts + minutes * _MINUTE), len(ts) - 1)
        later = np.sqrt(np.maximum(variance[end + 1] - variance[1:], 0.0))
        columns.append(np.where(np.isfinite(frame[f"target_{name}"].to_numpy()), later, np.nan))
    return np.stack(columns, axis=1)


class _Path:
    """What lies between two rows of a frame: the return, a change of session, halts and unadjusted rolls."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.session = frame["session"].to_numpy()
        self.log_close = np.log(frame["close"].to_numpy(np.float64))
        self.halted, self.breaks = (
            np.cumsum(frame[name].to_numpy(), dtype=np.int32) for name in ("halt", "unadjusted")
        )

    def returns(self, start: Any, end: Any, bars: Any) -> np.ndarray:
        """Log returns from rows `start` to rows `end` (slices or indices), `bars` apart; NaN where undefined."""
        defined = self.session[end] == self.session[start]
        defined &= self.halted[end] - self.halted[start] < bars
        defined &= self.breaks[end] == self.breaks[start]
        return np.where(defined, self.log_close[end] - self.log_close[start], np.nan)

"""Targets: the log return from a bar's close to a later one, by the clock, to the session's end, or over the break."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.data.clock import utc_nanoseconds
from nqcast.horizons import DEFAULT, Horizon, horizon, horizons_of
from nqcast.spacing import Spacing

_MINUTE = 60_000_000_000  # nanoseconds
_DAY = 1440 * _MINUTE


def target_columns(frame: pd.DataFrame, names: Sequence[str] = DEFAULT) -> dict[str, np.ndarray]:
    """The targets of `frame` (ts, session, close, halt, unadjusted, bars_to_close), natural log returns, by column.

    By the clock a target is NaN where the session has no bar Δ later and where every bar of the horizon lies in a halt;
    to the close, where the session is not known to its end or nothing but a halt is left; over the break, where no
    such later session is known at that hour. All are NaN where the return would run across a roll that could not be
    adjusted. The row Δ later is found by its time stamp, never by counting rows.
    """
    ts, path = utc_nanoseconds(frame["ts"]), _Path(frame)
    columns = {}
    for one in map(horizon, names):
        if one.by_clock:
            columns[f"target_{one.name}"] = _target(ts, path, one.minutes, one.bars(Spacing.of(frame["ts"]).minutes))
        else:
            columns[f"target_{one.name}"] = path.returns_to(end_rows(frame, one), bool(one.sessions))
    return columns


def end_rows(frame: pd.DataFrame, horizon: Horizon) -> np.ndarray:
    """Row (N,) at whose close each row's horizon ends, by the clock; -1 where the table has none.

    Over the break it is the last bar at or before the same hour of exchange time, so many sessions later: where that
    session has closed by then, its last.
    """
    row, ts = np.arange(len(frame)), utc_nanoseconds(frame["ts"])
    if horizon.by_clock:
        found = np.minimum(np.searchsorted(ts, ts + horizon.minutes * _MINUTE), len(ts) - 1)
        return np.where(ts[found] - ts == horizon.minutes * _MINUTE, found, -1)
    date = frame["session"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    first = np.flatnonzero(np.diff(date, prepend=date[0] - 1))
    session = np.cumsum(np.diff(date, prepend=date[0] - 1) != 0) - 1
    last = np.append(first[1:], len(row)) - 1
    whole = frame["bars_to_close"].to_numpy()[last] == 0  # sessions that are known to their end
    if horizon.to_close:
        return np.where(whole[session] & (last[session] > row), last[session], -1)
    ahead = np.minimum(session + horizon.sessions, len(first) - 1)
    hour = frame["ts"].dt.tz_convert(EXCHANGE_TIMEZONE).dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
    since = hour.astype(np.int64) - date  # exchange time since the trading date began, below 0 the evening before
    key = session * 3 * _DAY + since
    found = np.searchsorted(key, ahead * 3 * _DAY + since, side="right") - 1
    known = (session + horizon.sessions < len(first)) & ((since <= since[last[ahead]]) | whole[ahead])
    return np.where(known & (date[first[ahead]] - date <= horizon.most_days * _DAY), found, -1)


def _target(ts: np.ndarray, path: "_Path", minutes: int, bars: int) -> np.ndarray:
    later = minutes * _MINUTE
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

    A break between sessions adds its squared return. A label, as the targets are: it knows the bars after the row.
    """
    ts = utc_nanoseconds(frame["ts"])
    within = frame["realized_variance"].to_numpy(np.float64)
    variance = np.concatenate([[0.0], np.cumsum(within)])
    columns = []
    for name in horizons_of(frame.columns):
        one, total = horizon(name), variance
        if one.by_clock:
            end = np.minimum(np.searchsorted(ts, ts + one.minutes * _MINUTE), len(ts) - 1)
        else:
            end = np.maximum(end_rows(frame, one), np.arange(len(ts)))
        if one.sessions:
            jump = np.where(frame["session_first"], frame["open_return"], 0.0)
            total = np.concatenate([[0.0], np.cumsum(within + jump**2)])
        later = np.sqrt(np.maximum(total[end + 1] - total[1:], 0.0))
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

    def returns(self, start: Any, end: Any, bars: Any, over_break: bool = False) -> np.ndarray:
        """Log returns from rows `start` to rows `end` (slices or indices), `bars` apart; NaN where undefined."""
        defined = (self.session[end] == self.session[start]) | over_break
        defined &= self.halted[end] - self.halted[start] < bars
        defined &= self.breaks[end] == self.breaks[start]
        return np.where(defined, self.log_close[end] - self.log_close[start], np.nan)

    def returns_to(self, end: np.ndarray, over_break: bool) -> np.ndarray:
        """Log returns from every row to the row `end` (N,), NaN where that is -1 or the return is undefined."""
        row = np.arange(len(end))
        found = self.returns(row, np.maximum(end, row), np.maximum(end - row, 1), over_break)
        return np.where(end >= 0, found, np.nan)

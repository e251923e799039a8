"""Targets: the log return from a bar's close to a later one, by the clock, to the session's end, or over the break."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, MINUTE_NS
from nqcast.data.clock import exchange_time, utc_nanoseconds
from nqcast.horizons import DEFAULT, TARGET, Horizon, horizon, horizons_of


def target_columns(frame: pd.DataFrame, names: Sequence[str] = DEFAULT) -> dict[str, np.ndarray]:
    """The targets of `frame` (ts, session, close, halt, unadjusted, bars_to_close), natural log returns, by column.

    By the clock a target is NaN where the session has no bar Δ later and where every bar of the horizon lies in a halt;
    to the close, where the session is not known to its end or nothing but a halt is left; over the break, where no
    such later session is known at that hour. All are NaN where the return would run across a roll that could not be
    adjusted. The row Δ later is found by its time stamp, never by counting rows.
    """
    session, log_close = frame["session"].to_numpy(), np.log(frame["close"].to_numpy(np.float64))
    halted, breaks = (np.cumsum(frame[name].to_numpy(), dtype=np.int32) for name in ("halt", "unadjusted"))
    row, columns = np.arange(len(frame)), {}
    for one in map(horizon, names):
        found = end_rows(frame, one)
        end = np.maximum(found, row)
        defined = (found >= 0) & ((session[end] == session) | bool(one.sessions))
        defined &= halted[end] - halted < np.maximum(end - row, 1)
        defined &= breaks[end] == breaks
        columns[f"{TARGET}{one.name}"] = np.where(defined, log_close[end] - log_close, np.nan)
    return columns


def end_rows(frame: pd.DataFrame, horizon: Horizon) -> np.ndarray:
    """Row (N,) at whose close each row's horizon ends, by the clock; -1 where the table has none.

    Over the break it is the last bar at or before the same hour of exchange time, so many sessions later: where that
    session has closed by then, its last.
    """
    row, ts = np.arange(len(frame)), utc_nanoseconds(frame["ts"])
    if horizon.by_clock:
        found = np.minimum(np.searchsorted(ts, ts + horizon.minutes * MINUTE_NS), len(ts) - 1)
        return np.where(ts[found] - ts == horizon.minutes * MINUTE_NS, found, -1)
    date = frame["session"].to_numpy().astype("datetime64[ns]").astype(np.int64)
    first = np.flatnonzero(np.diff(date, prepend=date[0] - 1))
    session = np.cumsum(np.diff(date, prepend=date[0] - 1) != 0) - 1
    last = np.append(first[1:], len(row)) - 1
    whole = frame["bars_to_close"].to_numpy()[last] == 0  # sessions that are known to their end
    if horizon.to_close:
        return np.where(whole[session] & (last[session] > row), last[session], -1)
    ahead = np.minimum(session + horizon.sessions, len(first) - 1)
    # exchange time since the trading date began, below 0 the evening before
    since = exchange_time(frame["ts"]).astype(np.int64) - date
    key = session * 3 * DAY_NS + since
    found = np.searchsorted(key, ahead * 3 * DAY_NS + since, side="right") - 1
    known = (session + horizon.sessions < len(first)) & ((since <= since[last[ahead]]) | whole[ahead])
    return np.where(known & (date[first[ahead]] - date <= horizon.most_days * DAY_NS), found, -1)


def realized_volatility(frame: pd.DataFrame) -> np.ndarray:
    """Root of the realized variance over each target's own horizon (N, H), in return units; NaN where it is NaN.

    A break between sessions adds its squared return. A label, as the targets are: it knows the bars after the row.
    """
    within, row = frame["realized_variance"].to_numpy(np.float64), np.arange(len(frame))
    variance = np.concatenate([[0.0], np.cumsum(within)])
    columns = []
    for name in horizons_of(frame.columns):
        one, total = horizon(name), variance
        end = np.maximum(end_rows(frame, one), row)
        if one.sessions:
            jump = np.where(frame["session_first"], frame["open_return"], 0.0)
            total = np.concatenate([[0.0], np.cumsum(within + jump**2)])
        later = np.sqrt(np.maximum(total[end + 1] - total[1:], 0.0))
        columns.append(np.where(np.isfinite(frame[f"{TARGET}{name}"].to_numpy()), later, np.nan))
    return np.stack(columns, axis=1)

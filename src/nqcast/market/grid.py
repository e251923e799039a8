"""From source bars to the complete grid of every session, five minutes apart or as far as its spacing says."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nqcast.constants import MINUTE_NS
from nqcast.market.calendar import LAST_HALT, nanoseconds
from nqcast.spacing import Spacing

LONG_BREAK_HOURS = 12  # a weekend or a holiday, which brings more news than a night
MOST_SILENT_BARS = 12  # of five minutes; a session that lacks more before its close was cut by the source


def aggregate(joined: pd.DataFrame, sessions: pd.DataFrame, names: Sequence[str], spacing: Spacing) -> pd.DataFrame:
    """Bars on the complete grid: a row for every slot from a session's first bar to its close.

    joined: source bars sorted by ts with session_position (row of sessions), code (index of names), raw_close and
    unadjusted. Where nothing traded: volume 0, every price at the last close, traded false, realized_variance 0.
    """
    slot_ns = spacing.minutes * MINUTE_NS
    slot = nanoseconds(joined["ts"]) // slot_ns
    session = joined["session_position"].to_numpy()
    begin = np.flatnonzero(np.diff(session, prepend=-1))  # first source bar of each session
    end = np.append(begin[1:], len(joined)) - 1
    length = _last_slots(slot[end], session[end], sessions, spacing) - slot[begin] + 1
    offset = np.cumsum(length) - length  # first grid row of each session
    bars_per_session = np.diff(np.append(begin, len(joined)))
    source_row = slot - np.repeat(slot[begin] - offset, bars_per_session)
    start = np.flatnonzero(np.diff(source_row, prepend=-1))  # first source bar of each traded row
    stop = np.append(start[1:], len(joined)) - 1
    n_rows = int(length.sum())
    traded = np.zeros(n_rows, dtype=bool)
    traded[source_row[start]] = True
    # Index among traded rows of the last one at or before each grid row; a session's first row is always traded.
    last = np.cumsum(traded) - 1

    close = joined["close"].to_numpy()[stop][last]
    grid_ts = (np.arange(n_rows) + np.repeat(slot[begin] - offset, length)) * slot_ns
    grid_session = np.repeat(session[begin], length)
    raw_close, code = (joined[name].to_numpy()[stop][last] for name in ("raw_close", "code"))
    squares = squared_returns(joined, begin)
    return pd.DataFrame(
        {
            "ts": pd.to_datetime(grid_ts, unit="ns", utc=True),
            "open": np.where(traded, joined["open"].to_numpy()[start][last], close),
            "high": np.where(traded, np.maximum.reduceat(joined["high"].to_numpy(), start)[last], close),
            "low": np.where(traded, np.minimum.reduceat(joined["low"].to_numpy(), start)[last], close),
            "close": close,
            "volume": _summed(joined, start, last, traded),
            "traded": traded,
            "halt": _in_halt(grid_ts, grid_session, sessions),
            "session": sessions["session"].to_numpy()[grid_session],
            "gap_minutes": _gaps(grid_ts, offset, length, slot_ns),
            "contract": pd.array(np.array(names, dtype=object)[code], dtype="str"),
            "raw_close": raw_close,
            "realized_variance": np.where(traded, np.add.reduceat(squares, start)[last], 0.0),
            "unadjusted": traded & np.logical_or.reduceat(joined["unadjusted"].to_numpy(), start)[last],
            **_known_beforehand(grid_ts, grid_session, sessions, slot_ns),
        }
    )


def _known_beforehand(
    grid_ts: np.ndarray, grid_session: np.ndarray, sessions: pd.DataFrame, slot_ns: int
) -> dict[str, np.ndarray]:
    """What the calendar says of each grid row before its session opens.

    halts: whether the session belongs to the era of the 15:15-15:30 halt; bars_to_close: the slots that follow up to
    the close; long_break_in: the sessions that begin before the market closes for a weekend or a holiday.
    """
    return {
        "halts": (sessions["session"] <= pd.Timestamp(LAST_HALT)).to_numpy()[grid_session],
        "bars_to_close": -((grid_ts - nanoseconds(sessions["close"])[grid_session]) // slot_ns) - 1,
        "long_break_in": _long_break_in(sessions)[grid_session],
    }


def _long_break_in(sessions: pd.DataFrame) -> np.ndarray:
    """Sessions that begin between the end of each and the next long break: 0 before a weekend, 4 on most Mondays."""
    pause = nanoseconds(sessions["open"])[1:] - nanoseconds(sessions["close"])[:-1]
    long = np.flatnonzero(np.append(pause > LONG_BREAK_HOURS * 60 * MINUTE_NS, True))
    row = np.arange(len(sessions))
    return long[np.searchsorted(long, row)] - row


def _last_slots(traded: np.ndarray, session: np.ndarray, sessions: pd.DataFrame, spacing: Spacing) -> np.ndarray:
    """Last slot of each session: the one before its known close, or its last bar where more than an hour is missing.

    Whether a target near the close is defined must not hang on a trade that comes after it. The file's last session
    ends with its last bar, since nobody knows yet what follows.
    """
    close = -(-nanoseconds(sessions["close"])[session] // (spacing.minutes * MINUTE_NS)) - 1  # one may hold the close
    known = (close > traded) & (close - traded <= spacing.rows(MOST_SILENT_BARS))
    known[-1] = False
    return np.where(known, close, traded)


def squared_returns(joined: pd.DataFrame, begin: np.ndarray) -> np.ndarray:
    """Squared log return of each source bar (N,): close to close, but open to close where no return crosses.

    No return crosses a session's start (`begin`, row numbers) nor a contract change of unknown factor.
    """
    log_close = np.log(joined["close"].to_numpy())
    change = np.diff(log_close, prepend=log_close[0])
    own = np.flatnonzero(joined["unadjusted"].to_numpy())
    own = np.union1d(begin, own)
    change[own] = log_close[own] - np.log(joined["open"].to_numpy()[own])
    return change**2


def _summed(joined: pd.DataFrame, start: np.ndarray, last: np.ndarray, traded: np.ndarray) -> np.ndarray:
    if "volume" not in joined:
        return np.zeros(len(traded), dtype=np.int64)
    volume = np.add.reduceat(joined["volume"].to_numpy().astype(np.int64), start)
    return np.where(traded, volume[last], 0)


def _in_halt(ts: np.ndarray, session: np.ndarray, sessions: pd.DataFrame) -> np.ndarray:
    # NaT is the smallest int64, so a session without a halt has an empty one.
    halt_start, halt_end = (nanoseconds(sessions[name])[session] for name in ("halt_start", "halt_end"))
    return (ts >= halt_start) & (ts < halt_end)


def _gaps(ts: np.ndarray, offset: np.ndarray, length: np.ndarray, slot_ns: int) -> np.ndarray:
    """Minutes from the END of the session before to each session's first row; 0 on every other row and the first."""
    gap = np.zeros(len(ts))
    previous_end = ts[offset + length - 1][:-1] + slot_ns
    gap[offset[1:]] = (ts[offset[1:]] - previous_end) / MINUTE_NS
    return gap

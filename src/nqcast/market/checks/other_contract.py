"""Another contract's prices in the place of the front's: a level apart, thinly traded, and back again.

Neither a level nor thin trade is proof: news moves prices and holidays are quiet. A change of contract does both at
once, and undoes both at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES, DAY_NS, EXCHANGE_TIMEZONE, MINUTE_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.config import IngestConfig

SLOTS = 1440 // BAR_MINUTES
_SLOT_NS = BAR_MINUTES * MINUTE_NS
_HOUR_NS = 60 * MINUTE_NS
_SESSIONS_AROUND, _SESSIONS_BESIDE = 21, 10
_EDGE_SLOTS = 12
_MOST_BETWEEN = 400
_EDGE_SHARE = 0.5
_REGULAR_AROUND, _ORDINARY_BESIDE = 5, 4
_THIN_SLOTS, _THIN_HOURS, _THIN_SESSION = 48, 0.05, 0.15


class Activity:
    """Volume of stretches of time against what is usual at their hours, on the open five-minute slots of all sessions.

    Usual is the least of the slot's medians over 21 sessions around, 10 before and 10 after: a trade that grows for
    good makes nothing before it thin.
    """

    def __init__(self, bars: pd.DataFrame, sessions: pd.DataFrame) -> None:
        """bars: sorted by ts, with volume and session_position; sessions: open, close, halt_start, halt_end."""
        position, row_session = np.unique(bars["session_position"].to_numpy(), return_inverse=True)
        present = sessions.iloc[position]
        begin = nanoseconds((present["session"] - pd.Timedelta(hours=7)).dt.tz_localize(EXCHANGE_TIMEZONE))
        flat = row_session * SLOTS + (nanoseconds(bars["ts"]) - begin[row_session]) // _SLOT_NS
        start = begin[:, None] + np.arange(SLOTS) * _SLOT_NS
        open_, close, halt_start, halt_end = (
            nanoseconds(present[name])[:, None] for name in ("open", "close", "halt_start", "halt_end")
        )
        length = (close - open_).ravel()
        self.short: np.ndarray = (length < 0.9 * np.median(length))[row_session]
        """For each row (N,) whether the calendar closes its session early."""
        is_open = (start >= open_) & (start < close) & ~((start >= halt_start) & (start < halt_end))
        volume = np.bincount(flat, weights=bars["volume"].to_numpy(), minlength=start.size).reshape(start.shape)
        table = np.where(is_open, volume, np.nan)
        around = _rolling_median(table, _SESSIONS_AROUND, center=True, min_periods=1)
        before, after = (
            pd.DataFrame(_rolling_median(side, _SESSIONS_BESIDE, min_periods=_REGULAR_AROUND)).shift(1).to_numpy()
            for side in (table, table[::-1])
        )
        beside = np.minimum(before, after[::-1])  # NaN where either side is too short
        usual = np.fmin(around, beside)
        counted = (is_open & (around > 0)).ravel()
        self.at: np.ndarray = (np.cumsum(counted) - counted)[flat]
        """For each row (N,) its slot among the counted ones."""
        self.volume = volume.ravel()[counted]
        self.usual = usual.ravel()[counted]
        self._beside = beside.ravel()[counted]
        self.session = np.repeat(position, SLOTS)[counted]
        self._cumulative = tuple(np.append(0.0, np.cumsum(column)) for column in (self.volume, self.usual))

    def share(self, first: Any, stop: Any) -> np.ndarray:
        """Volume of the slots [first, stop) over the usual one, 0 where there are none; arguments are cut to size."""
        begin, end = (np.clip(edge, 0, len(self.volume)) for edge in (first, stop))
        traded, usual = (column[end] - column[begin] for column in self._cumulative)
        return np.divide(traded, usual, out=np.zeros(np.shape(usual)), where=usual > 0)

    def thin(self) -> tuple[np.ndarray, np.ndarray]:
        """Sessions (rows of `sessions`) that trade hardly anything, and the share of the usual volume in each.

        Usual is here the lesser of the medians of ten sessions before and ten after, five at least on either side. Of
        the sessions that have both, four at least on either side are not thin: a change for good makes nothing thin.
        """
        traded = (self.volume > 0) & (self._beside > 0)  # a slot without a row says nothing of the size of trades
        volume, usual, session = self.volume[traded], self._beside[traded], self.session[traded]
        if not len(volume):
            return np.empty(0, dtype=np.int64), np.empty(0)
        position, row = np.unique(session, return_inverse=True)
        share = np.bincount(row, weights=volume) / np.bincount(row, weights=usual)
        hours = [np.convolve(column, np.ones(_THIN_SLOTS), "valid") for column in (volume, usual)]
        thin = np.zeros(len(position), dtype=bool)
        if len(volume) >= _THIN_SLOTS:
            thin[row[: len(hours[0])][hours[0] < _THIN_HOURS * hours[1]]] = True
        thin |= share < _THIN_SESSION
        before = np.cumsum(~thin)
        thin &= np.minimum(before, before[-1] - before) >= _ORDINARY_BESIDE
        return position[thin], share[thin]


def _rolling_median(table: np.ndarray, window: int, **options: Any) -> np.ndarray:
    """Rolling median down each column of a table (S, C), as one long column with a gap between two."""
    apart = np.vstack([table, np.full((window, table.shape[1]), np.nan)])
    rolled = pd.Series(apart.T.ravel()).rolling(window, **options).median().to_numpy()
    return rolled.reshape(apart.T.shape).T[: len(table)]


def other_contract(bars: pd.DataFrame, sessions: pd.DataFrame, config: IngestConfig) -> np.ndarray:
    """True (N,) inside stretches that begin with a jump and a fall of volume and end with the reverse of both.

    bars: the front contract's, adjusted, sorted by ts. A jump is a change of the log close beyond `level_jump` and
    beyond half of `level_jump_multiple` times what is usual in its hour and day (where a session opens: the usual gap).
    Volume halves within an hour at either end at least, and the stretch has less than `thin_share` of the volume around
    it and of what is usual; below the full multiple m, only (jump / m)² of that share. At most 400 jumps lie between.
    """
    stamp = nanoseconds(bars["ts"])
    change, noise = _changes(bars, stamp)
    strength = np.abs(change) / (config.level_jump_multiple * np.maximum(noise, 1e-12))
    rows = np.flatnonzero((strength > 0.5) & (np.abs(change) > config.level_jump))
    pairs = [np.empty((0, 2), dtype=np.int64)]
    for between in range(1, min(len(rows), _MOST_BETWEEN)):
        first, after = rows[:-between], rows[between:]
        near = stamp[after] - stamp[first] <= config.level_stretch_days * DAY_NS
        if not near.any():
            break
        off = np.abs(change[first] + change[after])
        is_back = off < np.minimum(3 * (noise[first] + noise[after]), 0.5 * np.abs(change[first]))
        chosen = near & is_back & (after - first >= config.level_stretch_bars)
        pairs.append(np.stack([first[chosen], after[chosen]], axis=1))
    found = np.concatenate(pairs)
    if not len(found):
        return np.zeros(len(bars), dtype=bool)
    activity = Activity(bars, sessions)
    found = _without_holidays(found, activity)
    thin = config.thin_share * np.minimum(strength[found].min(axis=1), 1.0) ** 2
    return _cover(found, thin, len(bars), activity)


def _without_holidays(pairs: np.ndarray, activity: Activity) -> np.ndarray:
    """The pairs that are more than part of sessions which the calendar closes early: their thin trade is usual."""
    return pairs[~(activity.short[pairs[:, 0]] & activity.short[pairs[:, 1] - 1])]


def _cover(pairs: np.ndarray, thin_share: np.ndarray, n: int, activity: Activity) -> np.ndarray:
    """Rows (N,) of the pairs (P, 2) of first row and row after that volume speaks for, the clearest ones first."""
    first: Any = activity.at[pairs[:, 0]]
    after: Any = activity.at[pairs[:, 1]]
    share, edge = activity.share, _EDGE_SLOTS
    fall = np.maximum(share(first + 1, first + 1 + edge), 1e-9) / np.maximum(share(first - edge, first), 1e-9)
    rise = np.maximum(share(after - edge, after), 1e-9) / np.maximum(share(after + 1, after + 1 + edge), 1e-9)
    side = np.maximum(after - first, SLOTS)
    around = 0.5 * (share(first - side, first) + share(after + 1, after + 1 + side))
    thin = share(first, after) < thin_share * np.minimum(around, 1.0)  # a calm after a storm is not thin
    thin &= (fall < _EDGE_SHARE) & (rise < _EDGE_SHARE)
    found = np.zeros(n, dtype=bool)
    for k in sorted(np.flatnonzero(thin).tolist(), key=lambda k: fall[k] * rise[k]):
        if not found[pairs[k, 0] : pairs[k, 1]].any():
            found[pairs[k, 0] : pairs[k, 1]] = True
    return found


def _changes(bars: pd.DataFrame, stamp: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Change of the log close to each bar (N,) and what is usual for such a change at its time (N,), both in log."""
    session = bars["session_position"].to_numpy()
    change = np.diff(np.log(bars["close"].to_numpy()), prepend=np.nan)
    change[0] = 0.0
    opens = np.diff(session, prepend=session[:1]) != 0
    minutes = np.maximum(np.diff(stamp, prepend=stamp[:1]) / MINUTE_NS, 1.0)
    rate = np.where(opens | (change == 0), np.nan, np.abs(change) / np.sqrt(minutes))
    usual = np.maximum(_median(rate, stamp // _HOUR_NS), _median(rate, session))
    gap = float(np.median(np.abs(change[opens]))) if opens.any() else 0.0
    return change, np.where(opens, np.maximum(usual, gap), usual * np.sqrt(minutes))


def _median(value: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Median of each row's group (N,), 0 where it has none."""
    return pd.Series(value).groupby(group).transform("median").fillna(0.0).to_numpy()

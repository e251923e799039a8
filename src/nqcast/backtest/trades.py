"""From quantiles to trades: direction by the median, size by the interval's width, filled at the next open.

Shapes: N rows of the features, or anchors among them · P points · K trades. A point is an instant at which orders are
filled: the open of each row, and one more at the end of each segment, the close. A segment is a session, or the part of
one on either side of a roll that could not be adjusted: no position is held across its ends. Nothing here reads a
target, or a row after the anchor, except to know when the session ends.

What trades earn and cost is linear in contracts, so books add up exactly. Profit, by sessions (S), is in shares of a
fixed capital and never reinvested: nothing compounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.backtest.config import BacktestConfig
from nqcast.evaluation.metrics import Floats

Ints = NDArray[np.int64]

_NEEDED = ("ts", "session", "close", "raw_close", "open_return", "log_return", "traded", "unadjusted")


@dataclass(frozen=True)
class Timeline:
    """Points of a feature table.

    An order that is sent after bar r is filled at point ``point_N[r] + 1``: the open of the first bar traded after it.
    Where the segment trades no more, that is its last traded close.
    """

    point_N: Ints  # the point of each row's open
    end_N: Ints  # the end point of each row's segment
    close_N: Floats  # roll-adjusted closes
    price_P: Floats  # roll-adjusted price at which an order is filled, before slippage
    tick_P: Floats  # one tick in roll-adjusted points
    row_P: Ints  # the row of each point; an end point has its segment's last row
    carried_P: NDArray[np.bool_]  # whether a holder may keep a position to the next point: not over an unadjusted roll
    session_N: NDArray[np.datetime64]

    @classmethod
    def of(cls, features: pd.DataFrame, tick: float) -> Timeline:
        """Points of a feature table; ``tick`` is the smallest price step, in index points.

        Opens come back from the returns that the table holds. ValueError when it lacks a column.
        """
        missing = [name for name in _NEEDED if name not in features.columns]
        if missing:
            raise ValueError(f"expected a features frame, found no column {missing}: run the features pipeline")
        session = features["session"].to_numpy().astype("datetime64[D]")
        fresh = np.ones(len(features), dtype=bool)
        fresh[1:] = (session[1:] != session[:-1]) | features["unadjusted"].to_numpy(bool)[1:]
        segment = np.cumsum(fresh) - 1
        row = np.arange(len(features))
        last_row = np.append(np.flatnonzero(fresh)[1:], len(features)) - 1
        point_N = row + segment
        row_P = np.empty(len(features) + segment[-1] + 1, dtype=np.int64)
        row_P[point_N] = row
        row_P[point_N[last_row] + 1] = last_row
        carried_P = np.ones(len(row_P), dtype=bool)
        carried_P[point_N[last_row] + 1] = ~np.append(features["unadjusted"].to_numpy(bool)[fresh][1:], True)
        close, raw = (features[name].to_numpy(np.float64) for name in ("close", "raw_close"))
        return cls(
            point_N=point_N,
            end_N=(point_N[last_row] + 1)[segment],
            close_N=close,
            price_P=_fill_prices(features, fresh, point_N, last_row, row_P),
            tick_P=tick * (close / raw)[row_P],
            row_P=row_P,
            carried_P=carried_P,
            session_N=session,
        )


def _fill_prices(
    features: pd.DataFrame, fresh: NDArray[np.bool_], point_N: Ints, last_row: Ints, row_P: Ints
) -> Floats:
    close, traded = features["close"].to_numpy(np.float64), features["traded"].to_numpy(bool)
    previous = np.concatenate([close[:1], close[:-1]])
    opened = np.where(
        fresh,
        close * np.exp(-features["log_return"].to_numpy(np.float64)),
        previous * np.exp(features["open_return"].to_numpy(np.float64)),
    )
    price_P = np.full(len(row_P), np.nan)
    price_P[point_N[traded]] = opened[traded]
    price_P[point_N[last_row] + 1] = close[last_row]  # untraded rows carry the last traded close
    return pd.Series(price_P).bfill().to_numpy()  # an order waits for the next trade; every segment ends in a price


LOW, MIDDLE, HIGH = "q10", "q50", "q90"


@dataclass(frozen=True)
class Trades:
    """K trades of one horizon, in time order: row of the anchor, points of entry and exit, signed size (contracts)."""

    row_K: Ints
    entry_K: Ints
    exit_K: Ints
    size_K: Floats

    def chosen(self, which: Ints) -> Trades:
        """The trades at these places."""
        return Trades(self.row_K[which], self.entry_K[which], self.exit_K[which], self.size_K[which])

    def signed(self, sign_K: Floats) -> Trades:
        """These trades with other directions."""
        return replace(self, size_K=np.abs(self.size_K) * sign_K)


def exposure(rows: pd.DataFrame, config: BacktestConfig) -> Floats:
    """Signed position (N,) that each forecast asks for, multiples of the capital; 0 where the median says too little.

    sign(q50) · min(width_at_one / (q90 − q10), max_exposure) where |q50| ≥ min_edge · (q90 − q10).
    """
    missing = [name for name in (LOW, MIDDLE, HIGH) if name not in rows.columns]
    if missing:
        raise ValueError(
            f"expected quantiles {LOW}, {MIDDLE} and {HIGH} of every forecast, found no {missing}: "
            "add the levels 0.1, 0.5 and 0.9 to `quantiles` and train again"
        )
    median = rows[MIDDLE].to_numpy(np.float64)
    width = np.maximum(rows[HIGH].to_numpy(np.float64) - rows[LOW].to_numpy(np.float64), np.finfo(float).tiny)
    wanted = np.minimum(config.width_at_one / width, config.max_exposure)
    return np.where(np.abs(median) >= config.min_edge * width, np.sign(median) * wanted, 0.0)


def all_trades(row_N: Ints, exposure_N: Floats, bars: int, timeline: Timeline, capital: float) -> Trades:
    """One trade per anchor that asks for a position: filled at the next open, closed ``bars`` bars later or at the end.

    The size in contracts is exposure · capital / close at the anchor; ``capital`` in index points. An anchor at its
    segment's last row trades nothing.
    """
    entry = timeline.point_N[row_N] + 1
    leave = np.minimum(entry + bars, timeline.end_N[row_N])
    size = exposure_N * capital / timeline.close_N[row_N]
    return Trades(row_N, entry, leave, size).chosen(np.flatnonzero((size != 0) & (leave > entry)))


def without_overlap(trades: Trades) -> Trades:
    """The first trade, then always the first one that enters when the one before has left, or later."""
    kept, at = [], 0
    while at < len(trades.entry_K):
        kept.append(at)
        at = max(at + 1, int(np.searchsorted(trades.entry_K, trades.exit_K[at], side="left")))
    return trades.chosen(np.array(kept, dtype=np.int64))


DUST = 1e-12  # contracts; what sums and differences of sizes leave behind


@dataclass(frozen=True)
class Book:
    """A net position through time, ``held_P`` contracts from each point to the next, and the sessions that it spans."""

    held_P: Floats
    timeline: Timeline
    capital: float
    sessions: NDArray[np.datetime64]

    @property
    def gross_S(self) -> Floats:
        """Profit of each session before costs, shares of the capital."""
        return self._by_session(self.held_P[:-1] * np.diff(self.timeline.price_P))

    @property
    def traded_S(self) -> Floats:
        """Ticks of every contract that changed hands in each session, shares of the capital: the cost of one tick."""
        change_P = np.abs(np.diff(self.held_P, prepend=0.0))
        return self._by_session(np.where(change_P > DUST, change_P, 0.0) * self.timeline.tick_P)

    def net_S(self, side_ticks: float) -> Floats:
        """Profit of each session after costs of so many ticks per contract and side."""
        return self.gross_S - side_ticks * self.traded_S

    @property
    def mean_exposure(self) -> float:
        """Mean size of the position over all rows of the sessions, multiples of the capital."""
        value_P = np.abs(self.held_P) * self.timeline.price_P
        rows = np.isin(self.timeline.session_N, self.sessions).sum()
        return float(value_P[self._inside].sum() / self.capital / rows)

    @property
    def _inside(self) -> NDArray[np.bool_]:
        return np.isin(self.timeline.session_N[self.timeline.row_P], self.sessions)

    def _by_session(self, points: Floats) -> Floats:
        values = np.zeros(len(self.timeline.row_P))
        values[: len(points)] = points
        session_P = self.timeline.session_N[self.timeline.row_P]
        place = np.searchsorted(self.sessions, session_P).clip(max=len(self.sessions) - 1)
        inside = self.sessions[place] == session_P
        return np.bincount(place[inside], values[inside], minlength=len(self.sessions)) / self.capital


def held(trades: Trades, n_points: int) -> Floats:
    """Net contracts (P,) from each point to the next, all trades together."""
    change_P = np.zeros(n_points)
    np.add.at(change_P, trades.entry_K, trades.size_K)
    np.add.at(change_P, trades.exit_K, -trades.size_K)
    held_P = np.cumsum(change_P)
    return np.where(np.abs(held_P) > DUST, held_P, 0.0)


def netted(books: Sequence[Book]) -> Book:
    """One book that holds the mean of the others' positions: only what is left of them is traded."""
    first = books[0]
    return Book(np.mean([book.held_P for book in books], axis=0), first.timeline, first.capital, first.sessions)


def trade_profit(trades: Trades, timeline: Timeline, capital: float) -> Floats:
    """Profit (K,) of each trade before costs, shares of the capital."""
    return trades.size_K * (timeline.price_P[trades.exit_K] - timeline.price_P[trades.entry_K]) / capital

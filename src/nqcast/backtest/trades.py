"""From quantiles to trades: direction by the median, size by the interval's width, both known at the anchor's close.

Shapes: N anchors · K trades. Nothing here reads a target, or a row of the features after the anchor, except to know
when the session ends.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nqcast.backtest.config import BacktestConfig
from nqcast.backtest.timeline import Ints, Timeline
from nqcast.evaluation.metrics import Floats

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
        """The same trades with other directions."""
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

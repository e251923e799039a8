"""What a set of trades earns and costs. Everything is linear in contracts, so books add up exactly.

Shapes: P points · S sessions. Profit is in shares of a fixed capital and never reinvested: nothing compounds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nqcast.backtest.trades import Timeline, Trades
from nqcast.evaluation.metrics import Floats

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

"""The conditional quantiles of the simulated market, by Monte Carlo from its true state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import EXCHANGE_TIMEZONE, MINUTE_NS, level_name
from nqcast.horizons import DEFAULT, Horizon
from nqcast.horizons import horizons as named
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.contracts import market_sessions
from nqcast.market.simulation.path import IntArray, front_path
from nqcast.market.simulation.volatility import (
    BIAS_STEPS,
    INNOVATIONS,
    SIGNED_LIMIT,
    FloatArray,
    Recursion,
    diurnal_variance,
    innovation_table,
    missing_probability,
    rounding_bias,
)
from nqcast.spacing import Spacing

Float32Array = NDArray[np.float32]
FIVE_MINUTES = Spacing()
BLOCK_PATHS = 1 << 16
"""Paths advanced together: the buffers of one block stay in the processor's cache."""
DEFAULT_PATHS = 1024
PATHS_STREAM = 3


@dataclass(frozen=True)
class Anchors:
    """Where forecasts start: A anchors, H horizons."""

    ts: pd.DatetimeIndex
    """Start of the anchor's bar."""
    first: IntArray
    """Row of the first open minute after the bar (A,)."""
    steps: IntArray
    """Open minutes until each horizon ends (A, H); 0 where the return is undefined."""


class TrueQuantiles:
    """The law of a simulated market given its past: what the best possible forecast would say.

    A forecast for the bar that starts at ts is made at its end, ts + 5 min, from the state after its last minute; the
    state is a function of the past bars, so no information is used that the bars do not hold.
    """

    def __init__(self, config: SimulationConfig) -> None:
        self.config = config
        self.recursion = Recursion.of(config)
        self.path = front_path(config)
        minute = self.path.grid.minute_of_day
        self._variance = diurnal_variance(config)[minute].astype(np.float32)
        self._missing = np.rint(missing_probability(config)[minute] * INNOVATIONS).astype(np.uint16)
        self._bias = rounding_bias(config.degrees_of_freedom).astype(np.float32)
        self._table = innovation_table(config.degrees_of_freedom).astype(np.float32)
        self._dates = pd.DatetimeIndex(market_sessions(config)["session"].iloc[: config.sessions])
        self._opens = np.isin(np.arange(len(minute)), self.path.grid.start[1:])

    @property
    def source(self) -> str:
        """Name of the bars whose law this is."""
        return self.config.source

    def anchors(
        self, ts: pd.DatetimeIndex | pd.Series, horizons: Sequence[str] = DEFAULT, spacing: Spacing = FIVE_MINUTES
    ) -> Anchors:
        """Rows and numbers of minutes for bars that start at `ts` (UTC); ValueError where a bar lies in no session."""
        stamps = pd.DatetimeIndex(ts).as_unit("ns")
        if stamps.tz is None:
            raise ValueError("expected ts with a time zone, found naive stamps: use UTC, e.g. ts.tz_localize('UTC')")
        grid = self.path.grid
        start = stamps.asi8
        made = start + spacing.minutes * MINUTE_NS
        first = np.searchsorted(grid.ts, made)
        session = np.searchsorted(grid.start, np.maximum(first - 1, 0), side="right") - 1
        opened, closed = grid.ts[grid.start[session]], grid.ts[grid.start[session + 1] - 1] + MINUTE_NS
        outside = (start < opened) | (start >= closed)
        if outside.any():
            raise ValueError(
                f"expected bars inside the sessions of the market ({self.config.sessions} sessions from "
                f"{self.config.start}), found {int(outside.sum())} outside, the first at {stamps[outside][0]}: "
                "ask for bars of the simulated market itself"
            )
        ends = [self._ends(one, made, session) for one in named(horizons)]
        steps = [np.searchsorted(grid.ts, end) - first for end in ends]
        return Anchors(stamps, first, np.stack(steps, axis=1).clip(min=0))

    def _ends(self, horizon: Horizon, made: IntArray, session: IntArray) -> IntArray:
        """When a horizon ends (A,), ns; where that is past what it may be, 0."""
        grid = self.path.grid
        closes = grid.ts[grid.start[1:] - 1] + MINUTE_NS
        if not horizon.sessions:
            ends = made + horizon.minutes * MINUTE_NS if horizon.by_clock else closes[session]
            return np.where(ends <= closes[session], ends, 0)
        wall = pd.DatetimeIndex(made, tz="UTC").tz_convert(EXCHANGE_TIMEZONE).tz_localize(None)
        dates = self._dates
        later = np.minimum(session + horizon.sessions, len(dates) - 1)
        local = wall + (dates[later] - dates[session])
        wanted = local.tz_localize(EXCHANGE_TIMEZONE, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward")
        found = np.minimum(wanted.tz_convert("UTC").as_unit("ns").asi8, closes[later])
        close = (dates[later] - dates[session]).days <= horizon.most_days
        return np.where((session + horizon.sessions < len(dates)) & close, found, 0)

    def quantiles_at(
        self,
        ts: pd.DatetimeIndex | pd.Series,
        levels: Sequence[float],
        paths: int = DEFAULT_PATHS,
        horizons: Sequence[str] = DEFAULT,
        spacing: Spacing = FIVE_MINUTES,
    ) -> pd.DataFrame:
        """Quantiles of the log return from the close of the bar at `ts` over every horizon.

        Returns one row per (ts, horizon), A·H rows: ts, horizon, q05 … q95 (return units, NaN where the session ends
        first or the whole horizon lies in the halt) and mc_error, the expected rise of the pinball loss, averaged over
        the levels, that the Monte Carlo error causes (return units). `paths` is the number of paths per anchor, half of
        them the mirror images of the others. Raises ValueError for stamps without a zone or outside every session.
        """
        if paths < 64 or paths % 2:
            raise ValueError(f"expected an even number of at least 64 paths, found {paths}: use e.g. {DEFAULT_PATHS}")
        anchors = self.anchors(ts, horizons, spacing)
        level = np.asarray(levels, float)
        quantiles = np.full((len(anchors.ts), len(horizons), len(level)), np.nan)
        error = np.full(quantiles.shape[:2], np.nan)
        longest = max(int(anchors.steps.max(initial=1)), 240)
        block = max(240 * BLOCK_PATHS // (paths * longest), 1)  # what is drawn for it takes the memory of one of 4h
        for begin in range(0, len(anchors.ts), block):
            part = slice(begin, begin + block)
            returns = self.sample(Anchors(anchors.ts[part], anchors.first[part], anchors.steps[part]), paths)
            quantiles[part], error[part] = _summary(returns, level)
        index = pd.MultiIndex.from_product([range(len(anchors.ts)), list(horizons)])
        names = [level_name(q) for q in levels]
        frame = pd.DataFrame(quantiles.reshape(len(index), -1), columns=names)
        frame.insert(0, "ts", anchors.ts[index.get_level_values(0)])
        frame.insert(1, "horizon", index.get_level_values(1))
        return frame.assign(mc_error=error.ravel())

    def sample(self, anchors: Anchors, paths: int, seed: int | None = None) -> FloatArray:
        """Log returns (A, H, paths) drawn from the law at each anchor, NaN where undefined.

        An anchor's draws depend on its stamp and the seed (default: the market's), not on the company it is asked in.
        """
        returns = np.full((*anchors.steps.shape, paths), np.nan)
        most = int(anchors.steps.max(initial=0))
        if not most:
            return returns
        state = _State.at(self, anchors, paths)
        minutes = (anchors.ts.asi8 // MINUTE_NS).tolist()
        seed = self.config.seed if seed is None else seed
        draws = [np.random.default_rng([seed, PATHS_STREAM, minute]) for minute in minutes]
        symbols = np.stack([rng.integers(0, INNOVATIONS, (2, most, paths // 2), np.uint16) for rng in draws], axis=2)
        opening = state.price.copy()
        leaps = [np.random.default_rng([seed, PATHS_STREAM, minute, 1]) for minute in minutes]
        for step in range(most):
            row = np.minimum(anchors.first + step, len(self._variance) - 1)
            state.open(self, row, leaps)
            state.advance(self, row, symbols[0, step], symbols[1, step])
            for horizon in range(anchors.steps.shape[1]):
                done = anchors.steps[:, horizon] == step + 1
                if done.any():
                    returns[done, horizon] = np.log(state.price[done].astype(np.float64) / opening[done])
        return returns


@dataclass
class _State:
    """Price in ticks and log variances of a block of paths, (A, paths) float32."""

    price: Float32Array
    slow: Float32Array
    fast: Float32Array
    trend: Float32Array

    @classmethod
    def at(cls, truth: TrueQuantiles, anchors: Anchors, paths: int) -> _State:
        path, last = truth.path, len(truth.path.slow) - 1
        row = np.minimum(anchors.first, last)
        price = np.where(truth._opens[row], path.close[row - 1], path.previous[row])  # the gap is yet to come
        columns = (price, path.slow[row], path.fast[row], path.trend[row])
        return cls(*(np.repeat(column.astype(np.float32)[:, None], paths, axis=1) for column in columns))

    def open(self, truth: TrueQuantiles, row: IntArray, rngs: Sequence[np.random.Generator]) -> None:
        """The gap with which a session opens where `row` is its first minute; the mirrored half leaps the other way."""
        for a in np.flatnonzero(truth._opens[row]):
            half = rngs[int(a)].standard_normal(self.price.shape[1] // 2)
            leap = truth.config.gap_volatility * np.concatenate([half, -half])
            self.price[a] = np.maximum(np.rint(self.price[a] * np.exp(leap)), 1).astype(np.float32)

    def advance(
        self, truth: TrueQuantiles, row: IntArray, symbol: NDArray[np.uint16], luck: NDArray[np.uint16]
    ) -> None:
        """One minute of the law, as in front_path; `symbol` and `luck` (A, paths/2) serve the mirrored half too."""
        recursion = truth.recursion
        half = truth._table[symbol]
        h = np.exp(self.slow + self.fast)
        h *= truth._variance[row][:, None] * self.price * self.price
        np.maximum(h, np.float32(recursion.floor_ticks**2), out=h)
        move = np.sqrt(h - np.float32(1.0 / 12.0))
        middle = half.shape[1]
        move[:, :middle] *= half
        move[:, middle:] *= -half
        np.rint(move, out=move)
        missing = truth._missing[row]
        self.slow *= np.float32(recursion.slow_decay)
        self.fast *= np.float32(recursion.fast_decay)
        self.fast -= np.float32(recursion.leverage) * self.trend
        self.trend *= np.float32(recursion.trend_decay)
        x = move / self.price
        x -= 0.5 * x * x
        deviation = np.sqrt(h)
        x *= self.price / deviation
        square = x * x
        size = np.float32(recursion.df + 1.0) * square / (np.float32(recursion.df - 2.0) + square) - np.float32(1.0)
        deviation *= np.float32(BIAS_STEPS)
        size -= truth._bias[np.minimum(deviation, np.float32(len(truth._bias) - 1)).astype(np.int32)]
        if missing.any():
            trade = luck >= missing[:, None]
            for half_of in (slice(None, middle), slice(middle, None)):
                for news in (move, x, size):
                    news[:, half_of] *= trade
        self.slow += np.float32(recursion.slow_news) * size
        self.fast += np.float32(recursion.fast_news) * size
        self.trend += np.float32(recursion.signed_scale) * np.clip(x, -SIGNED_LIMIT, SIGNED_LIMIT)
        self.price += move


def _summary(returns: FloatArray, level: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Quantiles (A, H, Q) of draws (A, H, paths) and the expected pinball excess (A, H) of their sampling error.

    A sample quantile has variance τ(1 − τ) / (n f²), and the pinball loss curves by f at its minimum: the excess is
    τ(1 − τ) / (2 n f), with the density f from the spacing of neighbouring quantiles. Mirrored paths make it smaller.
    """
    step = 0.4 * np.minimum(level, 1.0 - level)
    wanted = np.concatenate([level, level - step, level + step])
    found = np.moveaxis(np.quantile(returns, wanted, axis=2), 0, -1)
    quantiles, below, above = np.split(found, 3, axis=-1)
    sparsity = (above - below) / (2.0 * step)
    return quantiles, np.mean(0.5 * level * (1.0 - level) * sparsity, axis=-1) / returns.shape[2]

"""The simulated front contract, minute by minute: the recorded prices and the state of the law that produced them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import MINUTE_NS
from nqcast.market.calendar import minute_of_day, nanoseconds
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.contracts import Contract, contracts, market_sessions
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

IntArray = NDArray[np.int64]
PATH_STREAM, BAR_STREAM, STRAY_STREAM = 0, 1, 2


@dataclass(frozen=True)
class MinuteGrid:
    """Every minute in which the market is open, M of them."""

    ts: IntArray
    """Start of the minute, nanoseconds since the epoch (M,)."""
    minute_of_day: IntArray
    """Minute of the exchange's day, 0 to 1439 (M,)."""
    start: IntArray
    """Row of each session's first minute, and M at the end (sessions + 1,)."""


@dataclass(frozen=True)
class FrontPath:
    """What the front contract did. Arrays are (M,), prices in ticks, the state is the one BEFORE the minute."""

    grid: MinuteGrid
    previous: IntArray
    """Price before the minute's return: the last close, moved by the gap of a session or the spread of a roll."""
    close: IntArray
    traded: NDArray[np.bool_]
    slow: FloatArray
    fast: FloatArray
    trend: FloatArray
    front: IntArray
    """Position of the front contract in `contracts`."""
    contracts: list[Contract]


def session_generator(config: SimulationConfig, session: pd.Timestamp, stream: int) -> np.random.Generator:
    """The session's own random stream, so that sessions appended later leave the earlier ones as they were."""
    return np.random.default_rng([config.seed, session.toordinal(), stream])


def minute_grid(sessions: pd.DataFrame) -> MinuteGrid:
    """The open minutes of `sessions` (columns open, close, halt_start, halt_end), without the halt."""
    halt_start, halt_end = (_or_never(sessions[name]) for name in ("halt_start", "halt_end"))
    parts = []
    for row, (first, last) in enumerate(
        zip(nanoseconds(sessions["open"]), nanoseconds(sessions["close"]), strict=True)
    ):
        ts = np.arange(first, last, MINUTE_NS)
        parts.append(ts[(ts < halt_start[row]) | (ts >= halt_end[row])])
    ts = np.concatenate(parts)
    return MinuteGrid(
        ts, minute_of_day(ts).astype(np.int64), np.concatenate([[0], np.cumsum([len(part) for part in parts])])
    )


def front_path(config: SimulationConfig) -> FrontPath:
    """Draw the front contract's recorded prices with the state before every minute."""
    calendar = market_sessions(config)
    quoted = contracts(config, calendar)
    sessions = calendar.iloc[: config.sessions]
    grid = minute_grid(sessions)
    size = len(grid.ts)
    front = np.searchsorted([contract.front_ns for contract in quoted], grid.ts, side="right") - 1
    jump = np.zeros(size)
    changed = np.flatnonzero(np.diff(front, prepend=front[:1]))
    jump[changed] = [quoted[position].log_ratio for position in front[changed]]
    traded, innovation = np.empty(size, bool), np.empty(size)
    _draw(config, sessions["session"], grid, traded, innovation, jump)
    base = diurnal_variance(config)[grid.minute_of_day]
    prices = np.empty((2, size), np.int64)
    state = np.empty((3, size))
    walk = _Walk(config)
    for first, last in pairwise(grid.start.tolist()):
        minutes = slice(first, last)
        prices[:, minutes], state[:, minutes] = walk.run(
            base[minutes], innovation[minutes], traded[minutes], jump[minutes]
        )
    return FrontPath(grid, prices[0], prices[1], traded, state[0], state[1], state[2], front, quoted)


def _draw(
    config: SimulationConfig,
    session: pd.Series,
    grid: MinuteGrid,
    traded: NDArray[np.bool_],
    innovation: FloatArray,
    jump: FloatArray,
) -> None:
    """Fill `traded` and `innovation` and add each session's opening gap to `jump`, all (M,)."""
    table = innovation_table(config.degrees_of_freedom)
    chance = missing_probability(config)[grid.minute_of_day]
    for row, day in enumerate(session):
        rng = session_generator(config, day, PATH_STREAM)
        minutes = slice(grid.start[row], grid.start[row + 1])
        count = minutes.stop - minutes.start
        innovation[minutes] = table[rng.integers(0, INNOVATIONS, count)]
        traded[minutes] = rng.random(count) >= chance[minutes]
        if row:
            jump[minutes.start] += config.gap_volatility * float(rng.standard_normal())


class _Walk:
    """The law (see volatility.py) minute by minute, on plain floats; price and state are kept between calls.

    A move is rounded to whole ticks from the recorded price; its variance is reduced by the 1/12 that rounding adds.
    """

    def __init__(self, config: SimulationConfig) -> None:
        self.recursion = Recursion.of(config)
        self.bias = rounding_bias(self.recursion.df).tolist()
        self.price = round(config.initial_price / config.tick)
        self.state = (0.0, 0.0, 0.0)

    def run(
        self, base: FloatArray, innovation: FloatArray, traded: NDArray[np.bool_], jump: FloatArray
    ) -> tuple[IntArray, FloatArray]:
        """Advance over m minutes: previous and close (2, m), and slow, fast and trend before each minute (3, m)."""
        recursion, bias, coarse = self.recursion, self.bias, len(self.bias) - 1
        df1, df2, floor, limit = recursion.df + 1.0, recursion.df - 2.0, recursion.floor_ticks**2, SIGNED_LIMIT
        price, (s, f, t) = self.price, self.state
        prices, states = [], []
        minutes = zip(base.tolist(), innovation.tolist(), traded.tolist(), jump.tolist(), strict=True)
        for variance, z, trade, leap in minutes:
            if leap:
                price = max(round(price * exp(leap)), 1)
            before = price
            states.append((s, f, t))
            exponent = s + f
            s *= recursion.slow_decay
            f = recursion.fast_decay * f - recursion.leverage * t
            t *= recursion.trend_decay
            if trade:
                h = max(variance * exp(exponent) * price * price, floor)
                deviation = sqrt(h)
                price = max(price + round(sqrt(h - 1.0 / 12.0) * z), 1)
                x = log(price / before) * before / deviation
                u = df1 * x * x / (df2 + x * x) - 1.0 - bias[min(int(BIAS_STEPS * deviation), coarse)]
                s += recursion.slow_news * u
                f += recursion.fast_news * u
                t += recursion.signed_scale * min(max(x, -limit), limit)
            prices.append((before, price))
        self.price, self.state = price, (s, f, t)
        return np.array(prices).T, np.array(states).T


def _or_never(column: pd.Series) -> IntArray:
    """Nanoseconds (N,), NaT as the largest integer."""
    return np.where(column.isna(), np.iinfo(np.int64).max, nanoseconds(column))

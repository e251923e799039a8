"""The simulated front contract, minute by minute: the recorded prices and the state of the law that produced them."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.market.calendar import nanoseconds
from nqcast.market.config import EXCHANGE_ZONE
from nqcast.market.simulated_contracts import Contract, contracts, market_sessions
from nqcast.market.simulation_config import SimulationConfig
from nqcast.market.volatility import (
    BIAS_STEPS,
    INNOVATIONS,
    SIGNED_LIMIT,
    FloatArray,
    Law,
    diurnal_variance,
    innovation_table,
    missing_probability,
    rounding_bias,
)

IntArray = NDArray[np.int64]
MINUTE_NS = 60_000_000_000
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
    local = pd.DatetimeIndex(ts, tz="UTC").tz_convert(EXCHANGE_ZONE)
    minute = (local.hour * 60 + local.minute).to_numpy().astype(np.int64)
    return MinuteGrid(ts, minute, np.concatenate([[0], np.cumsum([len(part) for part in parts])]))


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
    previous, close, slow, fast, trend = _recursion(config, base, innovation, traded, jump, grid.start)
    return FrontPath(grid, previous, close, traded, slow, fast, trend, front, quoted)


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


def _recursion(
    config: SimulationConfig,
    base: FloatArray,
    innovation: FloatArray,
    traded: NDArray[np.bool_],
    jump: FloatArray,
    start: IntArray,
) -> tuple[IntArray, IntArray, FloatArray, FloatArray, FloatArray]:
    """Run the law (see volatility.py) over all minutes; the one loop over minutes, on plain floats.

    The move is rounded to whole ticks from the recorded price, its variance reduced by the variance 1/12 that rounding adds.
    """
    law = Law.of(config)
    df1, df2, floor = law.df + 1.0, law.df - 2.0, law.floor_ticks**2
    bias = rounding_bias(law.df).tolist()
    coarse = len(bias) - 1
    price = round(config.initial_price / config.tick)
    s = f = t = 0.0
    rows: list[tuple[int, int, float, float, float]] = []
    for variance, z, trade, leap in zip(
        base.tolist(), innovation.tolist(), traded.tolist(), jump.tolist(), strict=True
    ):
        if leap:
            price = max(round(price * exp(leap)), 1)
        before, s_before, f_before, t_before = price, s, f, t
        s *= law.slow_decay
        f = law.fast_decay * f - law.leverage * t
        t *= law.trend_decay
        if trade:
            h = max(variance * exp(s_before + f_before) * price * price, floor)
            deviation = sqrt(h)
            price = max(price + round(sqrt(h - 1.0 / 12.0) * z), 1)
            x = log(price / before) * before / deviation
            u = df1 * x * x / (df2 + x * x) - 1.0 - bias[min(int(BIAS_STEPS * deviation), coarse)]
            s += law.slow_news * u
            f += law.fast_news * u
            t += law.signed_scale * min(max(x, -SIGNED_LIMIT), SIGNED_LIMIT)
        rows.append((before, price, s_before, f_before, t_before))
    previous, close, slow, fast, trend = zip(*rows, strict=True)
    return np.array(previous), np.array(close), np.array(slow), np.array(fast), np.array(trend)


def _or_never(column: pd.Series) -> IntArray:
    """Nanoseconds (N,), NaT as the largest integer."""
    return np.where(column.isna(), np.iinfo(np.int64).max, nanoseconds(column))

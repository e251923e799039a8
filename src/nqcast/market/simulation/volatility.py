"""The law of the simulated market's 1-minute returns: two-component Beta-t-EGARCH on a diurnal profile.

A traded minute has the recorded log return r = sqrt(h) z, z standardised Student t with ν degrees of freedom, and

    h       = diurnal(minute of day) · exp(slow + fast)
    slow'   = φ_s slow + κ_s u
    fast'   = φ_f fast + κ_f u − θ trend
    trend'  = φ_t trend + w
    u       = (ν + 1) z² / (ν − 2 + z²) − 1 − b     score of the log variance, mean 0
    w       ∝ min(max(z, −4), 4)                    signed news, mean 0, variance 1

with z recomputed from the return as it was RECORDED (on the tick), so that the state is a function of past bars alone.
b is the mean of the score that rounding to the tick brings, a function of sqrt(h) in ticks: without it quiet hours
would push the slow component off by several units.
u and w are bounded, hence the state is stationary with all its moments if and only if φ_s, φ_f and φ_t lie in [0, 1):
half-lives are finite. A falling trend raises the fast component in the time that follows: leverage that builds up, as
in Corsi and Renò (2012), "Discrete-time volatility forecasting with persistent leverage effect", so that realised
variance shows late what signed returns show early. A minute without a trade returns 0 and brings no news; the state
decays. Between sessions and in the halt the state stands still, and the gap is no news.
Source: Harvey (2013), "Dynamic Models for Volatility and Heavy Tails", chapter 4 (two components, leverage).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter

from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.tables import read_table

FloatArray = NDArray[np.float64]

MINUTES_PER_DAY = 1440
INNOVATIONS = 1 << 16
BIAS_STEPS, BIAS_TICKS = 32, 32
SIGNED_LIMIT = 4.0


@dataclass(frozen=True)
class Recursion:
    """The coefficients of the recursion above, as plain floats."""

    df: float
    slow_decay: float
    slow_news: float
    fast_decay: float
    fast_news: float
    trend_decay: float
    leverage: float
    signed_scale: float
    floor_ticks: float

    @classmethod
    def of(cls, config: SimulationConfig) -> Recursion:
        """The law of a configuration: weights that give the configured long-run standard deviations."""
        df = config.degrees_of_freedom
        z = innovation_table(df)
        scale_deviation = float(np.std((df + 1.0) * z * z / (df - 2.0 + z * z)))
        half_lives = (config.slow_half_life, config.fast_half_life, config.trend_half_life)
        slow, fast, trend = (0.5 ** (1.0 / half_life) for half_life in half_lives)
        return cls(
            df=df,
            slow_decay=slow,
            slow_news=config.slow_deviation * np.sqrt(1.0 - slow * slow) / scale_deviation,
            fast_decay=fast,
            fast_news=config.fast_deviation * np.sqrt(1.0 - fast * fast) / scale_deviation,
            trend_decay=trend,
            leverage=config.leverage_deviation / float(np.linalg.norm(leverage_response(config))),
            signed_scale=float(1.0 / np.std(np.clip(z, -SIGNED_LIMIT, SIGNED_LIMIT))),
            floor_ticks=config.variance_floor_ticks,
        )


def leverage_response(config: SimulationConfig) -> FloatArray:
    """Response of −fast, per unit of leverage, 0, 1, 2 … minutes after one unit of signed news."""
    fast, trend = 0.5 ** (1.0 / config.fast_half_life), 0.5 ** (1.0 / config.trend_half_life)
    lags = int(40 * max(config.fast_half_life, config.trend_half_life)) + 2
    impulse = np.zeros(lags)
    impulse[1] = 1.0
    return lfilter([1.0], [1.0, -(fast + trend), fast * trend], impulse)


@lru_cache(maxsize=8)
def rounding_bias(df: float) -> FloatArray:
    """b by BIAS_STEPS · sqrt(h), sqrt(h) in ticks: what the size news of a move rounded to the tick has beyond mean 0.

    The last entry, for BIAS_TICKS and more, is that of a move not rounded (0 but for the finite table of innovations).
    """
    table = innovation_table(df)
    unrounded = float(np.mean(_score(table, df))) - 1.0
    deviation = (np.arange(BIAS_STEPS * BIAS_TICKS) + 0.5) / BIAS_STEPS
    z = table[INNOVATIONS // 2 + 3 :: 8]
    spread = np.sqrt(np.maximum(deviation**2 - 1.0 / 12.0, 0.0))
    rounded = np.mean(_score(np.rint(spread[:, None] * z) / deviation[:, None], df), axis=1)
    return np.append(rounded - np.mean(_score(z, df)), 0.0) + unrounded


def _score(z: FloatArray, df: float) -> FloatArray:
    return (df + 1.0) * z * z / (df - 2.0 + z * z)


@lru_cache(maxsize=8)
def innovation_table(df: float) -> FloatArray:
    """The 65,536 equally likely values of an innovation, ascending: Student t mid-quantiles scaled to variance 1.

    The market and its Monte Carlo draw from this same table, so the law is exact, and entry i mirrors entry 65535 − i.
    """
    upper = stats.t.isf((np.arange(INNOVATIONS // 2) + 0.5) / INNOVATIONS, df)
    z = np.concatenate([-upper, upper[::-1]])
    z /= np.sqrt(np.mean(z * z))
    z.flags.writeable = False
    return z


def _by_minute(name: str) -> FloatArray:
    """A value for each minute of the exchange's day, linear between the knots of a table."""
    knots = read_table("knots")[name]
    minute = np.array([60 * int(clock[:2]) + int(clock[3:]) for clock in knots])
    order = np.argsort(minute)
    return np.interp(
        np.arange(MINUTES_PER_DAY), minute[order], np.array(list(knots.values()))[order], period=MINUTES_PER_DAY
    )


def missing_probability(config: SimulationConfig) -> FloatArray:
    """Chance of a minute without a trade, for each minute of the exchange's day: shape (1440,)."""
    return np.minimum(config.missing_strength * _by_minute("missing"), 0.9)


def diurnal_variance(config: SimulationConfig) -> FloatArray:
    """Variance of a traded minute's return at state slow = fast = 0, by minute of the exchange's day: shape (1440,).

    Scaled so that a regular session (17:00–16:00, without the 15:15 halt) has the configured long-run variance.
    """
    variance = _by_minute("diurnal") ** (2.0 * config.diurnal_strength)
    minute = np.arange(MINUTES_PER_DAY)
    open_ = (minute < 15 * 60 + 15) | ((minute >= 15 * 60 + 30) & (minute < 16 * 60)) | (minute >= 17 * 60)
    traded = 1.0 - missing_probability(config)
    session = float((variance * traded)[open_].sum()) * mean_variance_factor(config)
    return variance * (config.session_volatility**2 / session)


def news(z: FloatArray, recursion: Recursion) -> tuple[FloatArray, FloatArray]:
    """Size news u (b left out) and signed news w of standardised returns z."""
    return _score(z, recursion.df) - 1.0, recursion.signed_scale * np.clip(z, -SIGNED_LIMIT, SIGNED_LIMIT)


def mean_variance_factor(config: SimulationConfig) -> float:
    """E[exp(slow + fast)] in the stationary state when every minute trades: the closed form the normalisation uses.

    The state is Σ_j a_j u_j − b_j w_j over past minutes, a_j = κ_s φ_s^j + κ_f φ_f^j and b_j the leverage response. The
    news is independent over minutes, so the expectation is the product of E[exp(a_j u − b_j w)]; two cumulants do where
    a_j and b_j are small.
    """
    recursion = Recursion.of(config)
    z = innovation_table(recursion.df)[8 :: INNOVATIONS // 4096]
    u, w = news(z, recursion)
    u = u - u.mean()
    response = recursion.leverage * leverage_response(config)
    lags = np.arange(int(30 * max(config.slow_half_life, config.fast_half_life, config.trend_half_life)))
    a = recursion.slow_news * recursion.slow_decay**lags + recursion.fast_news * recursion.fast_decay**lags
    b = np.zeros(len(lags))
    b[: min(len(lags), len(response))] = response[: len(lags)]
    near = min(len(lags), int(8 * max(config.fast_half_life, config.trend_half_life)))
    exact = np.log(np.mean(np.exp(a[:near, None] * u - b[:near, None] * w), axis=1)).sum()
    return float(np.exp(exact + 0.5 * np.sum(a[near:] ** 2 * np.var(u) + b[near:] ** 2)))

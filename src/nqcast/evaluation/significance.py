"""How sure a difference in skill is: stationary bootstrap over sessions, Diebold–Mariano, effective sample size.

Shapes: N anchors · S sessions · H horizons · R resamples. Forecasts of neighbouring anchors share most of their
outcome, so nothing here treats anchors as independent: sessions are the unit, and lags cover the overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizon
from nqcast.spacing import Spacing

LEAST_LAG = 12  # of five minutes: an hour
MINIMUM_DIFFERENCES = 10  # below so many sessions the test says nothing


class Overlap(NamedTuple):
    """Rows for which the outcomes of two anchors share bars, and the lag up to which they count as dependent."""

    bars: int
    lag: int

    @classmethod
    def of(cls, name: str, spacing: Spacing) -> Overlap:
        """The overlap of a horizon's outcomes on rows of this spacing: its length, and as lag an hour at least."""
        bars = horizon(name).bars(spacing.minutes)
        return cls(bars, max(bars, spacing.rows(LEAST_LAG)))


def overlaps(horizons: Iterable[str], ts: ArrayLike) -> tuple[Overlap, ...]:
    """The overlap of each horizon's outcomes on rows with these stamps."""
    spacing = Spacing.of(ts)
    return tuple(Overlap.of(name, spacing) for name in horizons)


class Interval(TypedDict):
    """A gain and the ends of its session-bootstrap interval."""

    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval; each of shape (H + 1,), the last entry of the mean over horizons."""

    value: Floats
    low: Floats
    high: Floats

    def named(self, columns: Sequence[str]) -> dict[str, Interval]:
        """The entries by name, as JSON values."""
        rows = zip(columns, self.value, self.low, self.high, strict=True)
        return {name: Interval(gain=float(v), low=float(low), high=float(high)) for name, v, low, high in rows}


@dataclass(frozen=True)
class DieboldMariano:
    """Test that the mean loss difference (loss − reference loss) is zero; negative means better than the reference."""

    mean: float
    statistic: float
    p_value: float
    lag: int
    n: int


def session_sums(values_NH: ArrayLike, session_N: ArrayLike) -> Floats:
    """Sums (S, H) or (S, H, Q) of the defined values of each session, sessions in time order."""
    values = np.nan_to_num(np.asarray(values_NH, dtype=float), nan=0.0)
    _, index = np.unique(np.asarray(session_N), return_inverse=True)
    sums = np.zeros((index.max() + 1, *values.shape[1:]))
    np.add.at(sums, index, values)
    return sums


def stationary_bootstrap(n: int, mean_block: float, replications: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices (R, n) of resamples made of blocks of geometric length, wrapped around (Politis and Romano 1994)."""
    indices = np.empty((replications, n), dtype=np.int64)
    starts = rng.integers(0, n, size=(replications, n))
    fresh = rng.random((replications, n)) < 1.0 / mean_block
    indices[:, 0] = starts[:, 0]
    for t in range(1, n):
        indices[:, t] = np.where(fresh[:, t], starts[:, t], (indices[:, t - 1] + 1) % n)
    return indices


def resampled(n_sessions: int, config: EvaluateConfig) -> NDArray[np.int64]:
    """The resamples (R, S) of so many sessions by which everything with these settings is judged."""
    rng = np.random.default_rng(config.seed)
    return stationary_bootstrap(n_sessions, config.mean_block, config.bootstrap_replications, rng)


def times_drawn(resamples_RS: NDArray[np.int64]) -> Floats:
    """How often (R, S) each resample holds each session."""
    return np.apply_along_axis(np.bincount, 1, resamples_RS, minlength=resamples_RS.shape[1]).astype(float)


def percentiles(drawn_R: Floats, confidence: float) -> tuple[Floats, Floats]:
    """The ends between which the draws (R, …) lie with this probability, as much outside above as below."""
    low, high = np.quantile(drawn_R, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return low, high


def skill_with_interval(
    loss_SH: Floats, reference_SH: Floats, base_SH: Floats, resamples_RS: NDArray[np.int64], confidence: float = 0.95
) -> Estimate:
    """Skill difference (Σ reference − Σ loss) / Σ base per horizon and in the mean, with a percentile interval.

    With ``base`` the loss of constants it is skill(forecast) − skill(reference), in the units of the skill table;
    with ``base`` = ``reference`` it is the skill over the reference. Losses are session sums over the same anchors,
    resampled together.
    """
    weights = times_drawn(resamples_RS)

    def with_mean(gain: Floats, base: Floats) -> Floats:
        ratio = gain / base
        return np.concatenate([ratio, ratio.mean(axis=-1, keepdims=True)], axis=-1)

    value = with_mean((reference_SH - loss_SH).sum(axis=0), base_SH.sum(axis=0))
    drawn = with_mean(weights @ (reference_SH - loss_SH), weights @ base_SH)
    return Estimate(value, *percentiles(drawn, confidence))


def long_run_variance(x: ArrayLike, lag: int) -> float:
    """Newey–West variance of √n·mean: γ₀ + 2 Σₖ (1 − k/(lag + 1)) γₖ, autocovariances over n (Bartlett weights)."""
    values: Floats = np.asarray(x, dtype=float)
    centred = values - values.mean()
    n = centred.size
    total = float(centred @ centred) / n
    for k in range(1, min(lag, n - 1) + 1):
        total += 2 * (1 - k / (lag + 1)) * float(centred[k:] @ centred[:-k]) / n
    return total


def effective_sample_size(x: ArrayLike, lag: int) -> float:
    """Independent observations that would fix the mean as well: n·γ₀ / long-run variance, between 1 and n."""
    values: Floats = np.asarray(x, dtype=float)
    values = values[np.isfinite(values)]
    long_run = long_run_variance(values, lag)
    if values.size < 2 or long_run <= 0:
        return float(values.size)
    return float(np.clip(values.size * np.var(values) / long_run, 1.0, values.size))


def diebold_mariano(difference: ArrayLike, lag: int) -> DieboldMariano:
    """Two-sided test on a series of loss differences in time order (Diebold and Mariano 1995; Student's t, n − 1).

    ValueError for fewer than ten values. Identical forecasts have statistic 0 and p-value 1.
    """
    d: Floats = np.asarray(difference, dtype=float)
    d = d[np.isfinite(d)]
    if d.size < MINIMUM_DIFFERENCES:
        raise ValueError(
            f"expected at least {MINIMUM_DIFFERENCES} loss differences, found {d.size}: score a longer period"
        )
    variance = long_run_variance(d, lag)
    if variance <= 0:
        return DieboldMariano(float(d.mean()), 0.0, 1.0, lag, d.size)
    statistic = float(d.mean() / np.sqrt(variance / d.size))
    return DieboldMariano(float(d.mean()), statistic, float(2 * stats.t.sf(abs(statistic), d.size - 1)), lag, d.size)


def compare_losses(
    loss_NH: Floats, reference_NH: Floats, session_N: ArrayLike, overlaps: Sequence[Overlap], session_lag: int = 5
) -> list[tuple[DieboldMariano, DieboldMariano]]:
    """The tests of each horizon on session sums (lag in sessions) and on bars (lag by overlap); the larger p counts."""
    difference = loss_NH - reference_NH
    sums = session_sums(difference, session_N)
    return [
        (diebold_mariano(sums[:, h], session_lag), diebold_mariano(difference[:, h], overlap.lag))
        for h, overlap in enumerate(overlaps)
    ]

"""Tests of coverage that respect overlapping outcomes: Kupiec, Christoffersen and dynamic quantile, phase by phase.

A forecast h bars ahead shares its outcome with the h − 1 anchors after it, so its hits are dependent even when it is
perfect, and a test on all anchors rejects it far too often. Every h-th anchor is free of overlap: each of the h
phases (anchors whose row is k modulo h) gives one valid test.

The stated rule: THE FIRST QUARTILE OF THE PHASES' P-VALUES COUNTS. Phases see overlapping outcomes, so their
p-values move together but not as one: a single phase wastes the others, the smallest p-value rejects too often, the
median too seldom (under 2 % of perfect forecasts at a nominal 5 %). The quartile was chosen by simulation, where it
rejects 2 to 7 % of perfect forecasts over levels, horizons of 1 to 48 bars and the three tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import special, stats

from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import MINIMUM_BAR_LAG, effective_sample_size

MINIMUM_ANCHORS = 20
PHASE_QUANTILE = 0.25


@dataclass(frozen=True)
class CoverageTests:
    """One level at one horizon: p-values by the phase rule (NaN where a phase is too short), and what they rest on."""

    coverage: float
    n: int
    effective_n: float
    anchors_per_phase: float
    kupiec: float
    christoffersen: float
    dynamic_quantile: float


def kupiec(hits: ArrayLike, level: float) -> float:
    """p-value of Kupiec's (1995) likelihood ratio that hits come with probability ``level``; χ² with 1 degree."""
    hits = np.asarray(hits, dtype=float)
    k, n = hits.sum(), hits.size
    return float(stats.chi2.sf(2 * (_log_likelihood(k, n, k / n) - _log_likelihood(k, n, level)), 1))


def christoffersen(hits: ArrayLike, level: float) -> float:
    """p-value of Christoffersen's (1998) conditional coverage: right rate, no first-order clustering; χ², 2."""
    hits = np.asarray(hits, dtype=int)
    before, after = hits[:-1], hits[1:]
    ones = np.array([np.sum(after[before == state]) for state in (0, 1)], dtype=float)
    visits = np.array([np.sum(before == state) for state in (0, 1)], dtype=float)
    rates = np.divide(ones, visits, out=np.zeros(2), where=visits > 0)
    markov = sum(_log_likelihood(k, n, p) for k, n, p in zip(ones, visits, rates, strict=True))
    return float(stats.chi2.sf(max(2 * (markov - _log_likelihood(ones.sum(), visits.sum(), level)), 0.0), 2))


def dynamic_quantile(hits: ArrayLike, quantile: ArrayLike, level: float, lags: int = 4) -> float:
    """p-value of Engle and Manganelli's (2004) test that hit − level is explained by nothing known at the anchor.

    Regressors: a constant, ``lags`` earlier hits, and the forecast quantile itself. Statistic: the explained sum
    of squares over level·(1 − level); χ² with the rank of the regressors.
    """
    centred = np.asarray(hits, dtype=float) - level
    quantile = np.asarray(quantile, dtype=float)
    spread = quantile.std()
    standard = (quantile - quantile.mean()) / spread if spread > 0 else np.zeros_like(quantile)
    lagged = [centred[lags - k : centred.size - k] for k in range(1, lags + 1)]
    x = np.column_stack([np.ones(centred.size - lags), *lagged, standard[lags:]])
    y = centred[lags:]
    beta, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-10)
    return float(stats.chi2.sf(float(np.sum((x @ beta) ** 2)) / (level * (1 - level)), rank))


def coverage_tests(
    hits_N: ArrayLike, quantile_N: ArrayLike, position_N: ArrayLike, level: float, bars: int, lags: int = 4
) -> CoverageTests:
    """The three tests of one level at one horizon on every phase of its anchors, combined by the stated rule.

    ``hits_N`` is 1.0 at or below the quantile, 0.0 above, NaN undefined; ``position_N`` the anchors' rows in the
    features frame (a row is a bar inside a session), which decide the phase; ``bars`` the horizon in bars.
    """
    hits, quantile, position = (np.asarray(a) for a in (hits_N, quantile_N, position_N))
    defined = np.isfinite(hits)
    hits, quantile, position = hits[defined], quantile[defined], position[defined]
    phases = [position % bars == k for k in range(bars)]
    phases = [chosen for chosen in phases if chosen.sum() >= max(MINIMUM_ANCHORS, 5 * lags)]

    def by_rule(test: Callable[[Floats, Floats], float]) -> float:
        return float(np.quantile([test(hits[k], quantile[k]) for k in phases], PHASE_QUANTILE)) if phases else np.nan

    return CoverageTests(
        coverage=float(hits.mean()) if hits.size else np.nan,
        n=int(hits.size),
        effective_n=effective_sample_size(hits, max(bars, MINIMUM_BAR_LAG)) if hits.size else 0.0,
        anchors_per_phase=hits.size / bars,
        kupiec=by_rule(lambda hit, _: kupiec(hit, level)),
        christoffersen=by_rule(lambda hit, _: christoffersen(hit, level)),
        dynamic_quantile=by_rule(lambda hit, q: dynamic_quantile(hit, q, level, lags)),
    )


def all_coverage_tests(
    below_NHQ: Floats,
    quantiles_NHQ: Floats,
    position_N: ArrayLike,
    levels: Sequence[float],
    horizon_bars: Sequence[int],
    lags: int = 4,
) -> list[list[CoverageTests]]:
    """`coverage_tests` of every horizon (outer list) and level (inner list)."""
    return [
        [
            coverage_tests(below_NHQ[:, h, i], quantiles_NHQ[:, h, i], position_N, level, bars, lags)
            for i, level in enumerate(levels)
        ]
        for h, bars in enumerate(horizon_bars)
    ]


def _log_likelihood(ones: float, n: float, p: float) -> float:
    return float(special.xlogy(ones, p) + special.xlogy(n - ones, 1 - p))

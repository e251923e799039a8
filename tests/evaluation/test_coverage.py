"""Coverage tests against closed forms, and by simulation: the right forecast passes, a wrong one does not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nqcast.evaluation import coverage as ct
from nqcast.evaluation.significance import Overlap, effective_sample_size


def overlapping_world(rng: np.random.Generator, n: int, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Standardised sums (n,) of the next ``bars`` unit shocks at every bar, and a slowly moving known spread (n,)."""
    path = np.concatenate([[0.0], np.cumsum(rng.normal(size=n + bars))])
    outcome = (path[bars:] - path[:-bars])[1 : n + 1] / np.sqrt(bars)
    return outcome, 1 + 0.5 * np.sin(np.arange(n) / 500 + rng.uniform(0, 6))


def p_values(rng: np.random.Generator, n: int, bars: int, level: float, width: float) -> list[float]:
    outcome, spread = overlapping_world(rng, n, bars)
    quantile = stats.norm.ppf(level) * width * spread
    hits, overlap = (outcome * spread <= quantile) * 1.0, Overlap(bars, max(bars, 12))
    result = ct.coverage_tests(hits, quantile, np.arange(n), level, overlap)
    return [result.kupiec, result.christoffersen, result.dynamic_quantile]


def test_kupiec_is_the_likelihood_ratio_by_hand() -> None:
    hits = np.repeat([1.0, 0.0], [14, 86])
    ratio = 2 * (14 * np.log(0.14 / 0.1) + 86 * np.log(0.86 / 0.9))
    assert ct.kupiec(hits, 0.1) == pytest.approx(stats.chi2.sf(ratio, 1))
    assert ct.kupiec(np.repeat([1.0, 0.0], [10, 90]), 0.1) == pytest.approx(1.0)
    assert ct.kupiec(np.zeros(100), 0.1) == pytest.approx(stats.chi2.sf(-200 * np.log(0.9), 1))


def test_christoffersen_sees_clusters_that_kupiec_does_not() -> None:
    clustered = np.zeros(300)
    clustered[100:130] = 1.0
    assert ct.kupiec(clustered, 0.1) == pytest.approx(1.0)
    assert ct.christoffersen(clustered, 0.1) < 1e-6
    spread_out = np.random.default_rng(0).permutation(clustered)
    assert ct.christoffersen(spread_out, 0.1) > 0.05


def test_dynamic_quantile_sees_hits_that_follow_the_forecast() -> None:
    rng = np.random.default_rng(1)
    quantile = rng.normal(size=2000)
    independent = (rng.random(2000) < 0.25).astype(float)
    following = (rng.random(2000) < np.where(quantile > 0, 0.35, 0.15)).astype(float)
    assert ct.dynamic_quantile(independent, quantile, 0.25) > 0.05
    assert ct.dynamic_quantile(following, quantile, 0.25) < 1e-6
    assert ct.dynamic_quantile(independent, np.ones(2000), 0.25) > 0.05  # a constant forecast is no regressor


@pytest.mark.parametrize("bars", [3, 12])
def test_a_perfect_forecast_on_overlapping_anchors_is_rejected_no_more_often_than_nominal(bars: int) -> None:
    rng = np.random.default_rng(bars)
    runs = np.array([p_values(rng, 4800, bars, level, 1.0) for level in (0.1, 0.5) for _ in range(150)])
    assert ((runs < 0.05).mean(axis=0) <= 1.5 * 0.05).all()


@pytest.mark.slow
def test_a_perfect_forecast_at_four_hours_is_rejected_no_more_often_than_nominal() -> None:
    rng = np.random.default_rng(48)
    runs = np.array([p_values(rng, 24_000, 48, level, 1.0) for level in (0.05, 0.5) for _ in range(100)])
    assert ((runs < 0.05).mean(axis=0) <= 1.5 * 0.05).all()


def test_all_anchors_at_once_would_reject_the_perfect_forecast() -> None:
    rng = np.random.default_rng(2)
    rejected = []
    for _ in range(100):
        outcome, _ = overlapping_world(rng, 4800, 12)
        rejected.append(ct.kupiec(outcome <= 0, 0.5) < 0.05)
    assert np.mean(rejected) > 0.3


@pytest.mark.parametrize("width", [0.85, 1.2])
def test_a_miscalibrated_forecast_is_rejected_by_each_test(width: float) -> None:
    runs = np.array([p_values(np.random.default_rng(i), 24_000, 6, 0.1, width) for i in range(5)])
    assert (runs < 0.05).all()


def test_a_shifted_median_is_rejected_and_short_data_are_no_verdict() -> None:
    outcome, _ = overlapping_world(np.random.default_rng(3), 12_000, 3)
    hits = (outcome <= 0.2).astype(float)
    result = ct.coverage_tests(hits, np.zeros(12_000), np.arange(12_000), 0.5, Overlap(3, 12))
    assert result.kupiec < 1e-4
    assert result.effective_n == pytest.approx(12_000 / 3, rel=0.5)
    assert np.isnan(ct.coverage_tests(hits[:50], np.zeros(50), np.arange(50), 0.5, Overlap(3, 12)).kupiec)


def test_phases_follow_rows_so_that_missing_anchors_do_not_make_neighbours_overlap() -> None:
    outcome, _ = overlapping_world(np.random.default_rng(4), 12_000, 3)
    hits = np.where(np.random.default_rng(5).random(12_000) < 0.2, np.nan, (outcome <= 0) * 1.0)
    kept = np.isfinite(hits)
    whole = ct.coverage_tests(hits, np.zeros(12_000), np.arange(12_000), 0.5, Overlap(3, 12))
    dropped = ct.coverage_tests(hits[kept], np.zeros(kept.sum()), np.flatnonzero(kept), 0.5, Overlap(3, 12))
    assert whole == dropped


def test_hits_count_as_dependent_as_far_as_the_overlap_says() -> None:
    """An hour of one-minute bars is sixty of them: so far the same hit goes on here, and so few are left."""
    hits = np.repeat(np.random.default_rng(6).integers(0, 2, 200), 60).astype(float)
    by_lag = {
        lag: ct.coverage_tests(hits, np.zeros(12_000), np.arange(12_000), 0.5, Overlap(15, lag)) for lag in (12, 60)
    }
    expected = {lag: effective_sample_size(hits, lag) for lag in (12, 60)}
    assert {lag: one.effective_n for lag, one in by_lag.items()} == expected
    assert expected[60] < 0.4 * expected[12]

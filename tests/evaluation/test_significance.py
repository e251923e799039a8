"""Significance against closed forms, arch and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import lfilter

from nqcast.evaluation import significance as sig
from nqcast.spacing import Spacing


def autoregression(rng: np.random.Generator, runs: int, n: int, rho: float) -> np.ndarray:
    return lfilter([1.0], [1.0, -rho], rng.normal(size=(runs, n + 100)), axis=1)[:, 100:]


def test_session_sums_add_up_each_session_and_skip_undefined_losses() -> None:
    session = np.array(["2016-01-05", "2016-01-04", "2016-01-05"], dtype="datetime64[D]")
    sums = sig.session_sums([[1.0, np.nan], [5.0, 7.0], [2.0, 3.0]], session)
    assert sums.tolist() == [[5.0, 7.0], [3.0, 3.0]]


def test_bootstrap_blocks_have_the_asked_mean_length_and_every_session_its_share() -> None:
    indices = sig.stationary_bootstrap(60, 5.0, 4000, np.random.default_rng(0))
    continued = (np.diff(indices, axis=1) % 60 == 1).mean()
    assert continued == pytest.approx(0.8 + 0.2 / 60, abs=0.005)  # a new block continues by chance once in n
    assert np.bincount(indices.ravel(), minlength=60) / indices.size == pytest.approx(np.full(60, 1 / 60), rel=0.06)


def test_bootstrap_spread_is_that_of_arch() -> None:
    bootstrap = pytest.importorskip("arch.bootstrap", reason="arch is in the extra 'baselines'")
    x = autoregression(np.random.default_rng(1), 1, 200, 0.5)[0]
    theirs = bootstrap.StationaryBootstrap(5, x, seed=0).apply(np.mean, 4000).std()
    ours = x[sig.stationary_bootstrap(200, 5.0, 4000, np.random.default_rng(0))].mean(axis=1).std()
    assert ours == pytest.approx(theirs, rel=0.06)


def test_long_run_variance_of_an_autoregression_nears_its_closed_form() -> None:
    x = autoregression(np.random.default_rng(2), 1, 200_000, 0.5)[0]
    assert sig.long_run_variance(x, 60) == pytest.approx(1 / (1 - 0.5) ** 2, rel=0.06)
    assert sig.effective_sample_size(x, 60) == pytest.approx(200_000 * (1 - 0.5) / (1 + 0.5), rel=0.06)


def test_long_run_variance_is_the_bartlett_sum_and_that_of_arch() -> None:
    x = np.random.default_rng(3).normal(size=50)
    centred = x - x.mean()
    gamma = [sum(centred[t] * centred[t - k] for t in range(k, 50)) / 50 for k in range(6)]
    by_hand = gamma[0] + 2 * sum((1 - k / 6) * gamma[k] for k in range(1, 6))
    assert sig.long_run_variance(x, 5) == pytest.approx(by_hand)
    kernel = pytest.importorskip("arch.covariance.kernel", reason="arch is in the extra 'baselines'")
    theirs = kernel.Bartlett(centred, bandwidth=5, df_adjust=0).cov.long_run
    assert sig.long_run_variance(x, 5) == pytest.approx(float(np.squeeze(theirs)))


def test_the_skill_interval_covers_the_true_skill_at_its_nominal_rate() -> None:
    rng = np.random.default_rng(4)
    covered = 0
    for _ in range(200):
        reference = 10 + autoregression(rng, 2, 100, 0.3).T
        loss = 0.9 * 10 + 0.9 * (reference - 10) + 0.3 * rng.normal(size=(100, 2))
        resamples = sig.stationary_bootstrap(100, 5.0, 300, rng)
        estimate = sig.skill_with_interval(loss, reference, reference, resamples, 0.9)
        covered += estimate.low[2] < 0.1 < estimate.high[2]
    assert covered / 200 == pytest.approx(0.9, abs=0.07)


def test_the_skill_interval_shrinks_to_a_point_when_every_session_gains_the_same() -> None:
    reference = np.abs(np.random.default_rng(5).normal(10, 1, (80, 3)))
    resamples = sig.stationary_bootstrap(80, 5.0, 200, np.random.default_rng(0))
    estimate = sig.skill_with_interval(0.8 * reference, reference, reference, resamples)
    for part in (estimate.value, estimate.low, estimate.high):
        assert part == pytest.approx(np.full(4, 0.2))


def test_diebold_mariano_rejects_equal_forecasts_at_its_nominal_rate_in_spite_of_autocorrelation() -> None:
    series = autoregression(np.random.default_rng(6), 1500, 250, 0.4)
    with_lags = np.mean([sig.diebold_mariano(d, 5).p_value < 0.05 for d in series])
    without = np.mean([sig.diebold_mariano(d, 0).p_value < 0.05 for d in series])
    assert 0.03 < with_lags < 0.085
    assert without > 0.15


def test_diebold_mariano_is_the_t_test_where_no_lag_is_taken() -> None:
    from scipy import stats

    d = np.random.default_rng(7).normal(0.2, 1, 60)
    test = sig.diebold_mariano(d, 0)
    theirs = stats.ttest_1samp(d, 0)
    assert test.statistic == pytest.approx(theirs.statistic * np.sqrt(60 / 59))  # variance over n, not n − 1
    assert sig.diebold_mariano(-d, 0).statistic == pytest.approx(-test.statistic)
    assert sig.diebold_mariano(np.zeros(60), 5).p_value == 1.0
    with pytest.raises(ValueError, match="at least 10 loss differences"):
        sig.diebold_mariano(d[:9], 0)


def test_overlapping_losses_need_the_bar_version_and_the_larger_p_counts() -> None:
    rng = np.random.default_rng(8)
    session = np.repeat(np.arange(120), 100)
    loss = np.abs(rng.normal(1, 0.3, (12_000, 1)))
    better, worse = loss - 0.05, loss + 0.05
    pair = sig.compare_losses(better, loss, session, [sig.Overlap(3, 12)])[0]
    assert pair[0].n == 120
    assert pair[1].n == 12_000
    assert pair[1].lag == 12
    assert pair[0].mean < 0
    assert sig.compare_losses(worse, loss, session, [sig.Overlap(48, 48)])[0][1].lag == 48


@pytest.mark.parametrize(
    ("minutes", "lags"), [(1, (60, 240)), (5, (12, 48)), (15, (4, 16)), (30, (2, 8)), (60, (1, 4))]
)
def test_losses_count_as_dependent_over_an_hour_at_least_whatever_the_spacing(
    minutes: int, lags: tuple[int, int]
) -> None:
    found = [sig.Overlap.of(name, Spacing(minutes)) for name in ("15m", "4h")]
    assert tuple(one.lag for one in found) == lags
    assert found[0].bars == 15 // minutes and found[1].bars == 240 // minutes
    noise = np.random.default_rng(1).normal(size=(1000, 2))
    tests = sig.compare_losses(noise, np.zeros_like(noise), np.arange(1000) // 20, found)
    assert tuple(on_bars.lag for _, on_bars in tests) == lags

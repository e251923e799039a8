"""Every metric against an independent implementation, a closed form or a known distribution."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import mean_pinball_loss

from nqcast.evaluation import metrics

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m")


@pytest.fixture
def forecast() -> tuple[np.ndarray, np.ndarray]:
    """Ordered quantiles (400, 3, 7) and targets (400, 3) with undefined outcomes, unequal per horizon."""
    rng = np.random.default_rng(3)
    quantiles = np.sort(rng.standard_t(4, (400, 3, 7)), axis=-1) * 1e-3
    targets = rng.standard_t(4, (400, 3)) * 1e-3
    targets[rng.random((400, 3)) < (0.02, 0.1, 0.4)] = np.nan
    return quantiles, targets


def test_pinball_equals_that_of_scikit_learn(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    quantiles, targets = forecast
    ours = metrics.pinball_by_level(quantiles, targets, LEVELS)
    for h in range(3):
        defined = np.isfinite(targets[:, h])
        for i, tau in enumerate(LEVELS):
            theirs = mean_pinball_loss(targets[defined, h], quantiles[defined, h, i], alpha=tau)
            assert ours[h, i] == pytest.approx(theirs, rel=1e-12)


def test_the_best_constant_under_pinball_is_the_empirical_quantile() -> None:
    sample = np.random.default_rng(0).standard_exponential(1001)
    for tau in LEVELS:
        candidates = np.sort(sample)
        quantiles = np.broadcast_to(candidates, (1001, 1001))[..., None]
        targets = np.broadcast_to(sample[:, None], (1001, 1001))
        best = candidates[np.argmin(metrics.pinball_by_level(quantiles, targets, (tau,))[:, 0])]
        assert best == pytest.approx(np.quantile(sample, tau, method="inverted_cdf"))


def test_an_undefined_target_leaves_its_horizon_only(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    quantiles, targets = forecast
    full = np.nan_to_num(targets)
    holed = full.copy()
    holed[7, 1] = np.nan
    before, after = (metrics.mean_pinball(quantiles, y, LEVELS) for y in (full, holed))
    without_row = metrics.mean_pinball(np.delete(quantiles, 7, axis=0), np.delete(full, 7, axis=0), LEVELS)
    assert after[0] == before[0]
    assert after[2] == before[2]
    assert after[1] == pytest.approx(without_row[1], rel=1e-12)


def test_a_known_distribution_is_covered_at_every_level() -> None:
    targets = np.random.default_rng(1).normal(size=(200_000, 1))
    quantiles = np.broadcast_to(stats.norm.ppf(LEVELS), (200_000, 1, 7))
    coverage = metrics.coverage_by_level(quantiles, targets, LEVELS)[0]
    assert coverage == pytest.approx(np.array(LEVELS), abs=4 * 0.5 / np.sqrt(200_000))
    named = metrics.named_metrics(quantiles, targets, LEVELS, ("15m",))
    assert named["picp_80"] == pytest.approx(0.8, abs=0.004)
    assert named["interval_80_mean"] == pytest.approx(2 * stats.norm.ppf(0.9))
    assert named["coverage_q95_15m"] == pytest.approx(0.95, abs=0.002)


def test_metrics_follow_levels_by_value_when_their_order_in_the_list_changes(
    forecast: tuple[np.ndarray, np.ndarray],
) -> None:
    quantiles, targets = forecast
    few = (0.10, 0.25, 0.50, 0.75, 0.90)
    cut = quantiles[..., 1:6]
    whole = metrics.named_metrics(quantiles, targets, LEVELS, HORIZONS)
    part = metrics.named_metrics(cut, targets, few, HORIZONS)
    for name in ("picp_80", "picp_50", "interval_80_mean", "interval_50_mean", "coverage_q10", "coverage_q90_60m"):
        assert part[name] == whole[name]
    assert "picp_50" not in metrics.named_metrics(quantiles[..., [0, 3, 6]], targets, (0.05, 0.5, 0.95), HORIZONS)


def test_the_name_of_level_95_is_q95_and_an_absent_level_is_an_error() -> None:
    assert [metrics.level_name(tau) for tau in LEVELS] == ["q05", "q10", "q25", "q50", "q75", "q90", "q95"]
    assert metrics.level_name(0.29) == "q29"  # int(100 * 0.29) is 28
    assert [metrics.level_name(tau) for tau in (0.02, 0.025, 0.1 + 0.2, 0.995)] == ["q02", "q025", "q30", "q995"]


def test_intervals_are_those_whose_ends_are_among_the_levels() -> None:
    assert metrics.central_intervals(LEVELS) == [50, 80, 90]
    assert metrics.usual_intervals(LEVELS) == [90, 80, 50] and metrics.main_interval(LEVELS) == 80
    deciles = tuple(k / 10 for k in range(1, 10))
    assert metrics.central_intervals(deciles) == [20, 40, 60, 80] and metrics.usual_intervals(deciles) == [80, 40]
    assert metrics.central_intervals((0.025, 0.1, 0.5, 0.975)) == [95]
    assert metrics.main_interval((0.05, 0.5, 0.95)) == 90
    assert metrics.symmetric(LEVELS) and not metrics.symmetric((0.025, 0.1, 0.5, 0.975))
    with pytest.raises(ValueError, match=r"expected level 0\.2 .* found"):
        metrics.level_index(LEVELS, 0.2)


def test_crps_from_many_levels_is_that_of_the_normal_distribution() -> None:
    levels = tuple((np.arange(2000) + 0.5) / 2000)
    targets = np.array([[-2.0], [-0.3], [0.0], [1.7]])
    quantiles = np.broadcast_to(stats.norm.ppf(levels), (4, 1, 2000))
    y = targets[:, 0]
    closed = y * (2 * stats.norm.cdf(y) - 1) + 2 * stats.norm.pdf(y) - 1 / np.sqrt(np.pi)
    assert metrics.crps(quantiles, targets, levels)[:, 0] == pytest.approx(closed, abs=2e-4)


def test_crps_weights_unequal_levels_by_the_probability_they_stand_for() -> None:
    assert metrics.level_weights(LEVELS) == pytest.approx([0.075, 0.1, 0.2, 0.25, 0.2, 0.1, 0.075])
    assert metrics.level_weights((0.125, 0.375, 0.625, 0.875)) == pytest.approx([0.25] * 4)


def test_crps_and_interval_scores_equal_those_of_scoringrules(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    scoringrules = pytest.importorskip("scoringrules", reason="scoringrules is in the extra 'dev'")
    quantiles, targets = forecast
    y = np.nan_to_num(targets)
    midpoints = (np.arange(7) + 0.5) / 7
    assert metrics.crps(quantiles, y, tuple(midpoints)) == pytest.approx(
        scoringrules.crps_quantile(y, quantiles, midpoints), rel=1e-12
    )
    assert metrics.winkler(quantiles, y, LEVELS, 80) == pytest.approx(
        scoringrules.interval_score(y, quantiles[..., 1], quantiles[..., 5], 0.2), rel=1e-12
    )
    total = 0.5 * np.abs(y - quantiles[..., 3])  # scoringrules 0.10 weights the median itself, not its distance
    for k, alpha in enumerate((0.1, 0.2, 0.5)):
        total += alpha / 2 * scoringrules.interval_score(y, quantiles[..., k], quantiles[..., 6 - k], alpha)
    assert metrics.weighted_interval_score(quantiles, y, LEVELS) == pytest.approx(total / 3.5, rel=1e-12)


def test_weighted_interval_score_is_twice_the_mean_pinball(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    quantiles, targets = forecast
    score = metrics.weighted_interval_score(quantiles, targets, LEVELS)
    assert score == pytest.approx(2 * metrics.anchor_loss(quantiles, targets, LEVELS), rel=1e-12, nan_ok=True)


def test_winkler_score_by_hand() -> None:
    quantiles = np.array([[[-1.0, 0.0, 2.0]]])
    for target, expected in ((1.0, 3.0), (2.5, 3.0 + 10 * 0.5), (-1.2, 3.0 + 10 * 0.2)):
        score = metrics.winkler(quantiles, np.array([[target]]), (0.1, 0.5, 0.9), 80)
        assert score[0, 0] == pytest.approx(expected)


def test_pit_shares_count_outcomes_between_quantiles(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    quantiles, targets = forecast
    shares = metrics.pit_shares(quantiles, targets, LEVELS)
    for h in range(3):
        defined = np.isfinite(targets[:, h])
        bins = [
            np.searchsorted(q, y, side="left") for q, y in zip(quantiles[defined, h], targets[defined, h], strict=True)
        ]
        assert shares[h] == pytest.approx(np.bincount(bins, minlength=8) / defined.sum())


def test_crossing_rate_counts_forecasts_with_swapped_neighbours() -> None:
    quantiles = np.tile(np.arange(5.0), (10, 2, 1))
    assert metrics.crossing_rate(quantiles) == 0
    quantiles[3, 1, [1, 2]] = quantiles[3, 1, [2, 1]]
    assert metrics.crossing_rate(quantiles) == pytest.approx(1 / (10 * 2))


def test_skill_is_zero_against_itself_and_one_for_no_loss() -> None:
    assert metrics.skill([2.0, 0.0, 4.0], [2.0, 2.0, 2.0]) == pytest.approx([0.0, 1.0, -1.0])


def test_direction_of_an_uninformative_median_is_the_share_of_up_moves() -> None:
    rng = np.random.default_rng(5)
    targets = rng.normal(0.3, 1, (50_000, 1))
    always_up = metrics.median_direction(np.full((50_000, 1), 1e-4), targets)
    assert always_up["directional_accuracy"] == pytest.approx(always_up["share_up"])
    assert np.isnan(always_up["information_coefficient"][0])
    signal = metrics.median_direction(targets + rng.normal(0, 1, targets.shape), targets)
    assert signal["information_coefficient"][0] == pytest.approx(6 / np.pi * np.arcsin(np.sqrt(0.5) / 2), abs=0.02)


def test_wrong_shapes_and_forecasts_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected quantiles"):
        metrics.pinball(np.zeros((4, 2, 6)), np.zeros((4, 2)), LEVELS)
    with pytest.raises(ValueError, match="expected finite quantiles"):
        metrics.pinball(np.full((4, 2, 7), np.nan), np.zeros((4, 2)), LEVELS)


def test_the_trainer_names_and_computes_its_metrics_the_same_way(forecast: tuple[np.ndarray, np.ndarray]) -> None:
    torch = pytest.importorskip("torch")
    from nqcast.training.loss_functions import MetricSums, metric_values

    quantiles, targets = forecast
    quantiles = quantiles.copy()
    quantiles[::9, 1, [2, 3]] = quantiles[::9, 1, [3, 2]]
    scale = np.random.default_rng(0).uniform(1e-4, 1e-2, targets.shape)
    sums = MetricSums.zeros(3, 7, "cpu")
    for rows in (slice(0, 150), slice(150, 151), slice(151, 400)):  # unequal batches
        sums.add(*(torch.from_numpy(a[rows]) for a in (quantiles, targets, scale)), LEVELS)
    theirs = metric_values(sums, LEVELS, HORIZONS)
    ours = metrics.named_metrics(quantiles, targets, LEVELS, HORIZONS, scale)
    assert set(theirs) <= set(ours)
    assert {name: ours[name] for name in theirs} == pytest.approx(theirs, rel=1e-9)


def test_the_numeric_modules_import_neither_torch_nor_plotting() -> None:
    script = (
        "import sys; import nqcast.evaluation.metrics, nqcast.evaluation.significance, "
        "nqcast.evaluation.conformal, nqcast.evaluation.config; "
        "print([m for m in ('torch', 'matplotlib', 'mlflow', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

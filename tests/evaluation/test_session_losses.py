"""What session losses say, against worked examples, closed forms, arch and simulation."""

from __future__ import annotations

from collections.abc import Callable
from math import comb

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS
from nqcast.evaluation import metrics, session_losses
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, as_arrays, predictions_frame
from nqcast.evaluation.judged import perfect_volatility
from nqcast.evaluation.session_losses import (
    SessionLosses,
    confidence_set,
    coverage_by_part,
    group_gains,
    holm,
    session_gains,
)
from nqcast.evaluation.significance import session_sums, stationary_bootstrap

Market = Callable[..., pd.DataFrame]
TEST = np.arange(276 * 31, 276 * 45)


@pytest.fixture(scope="module")
def features(market: Market) -> pd.DataFrame:
    return market(45)


@pytest.fixture(scope="module")
def anchors(features: pd.DataFrame) -> Forecasts:
    har = make_baseline("seasonal_har", LEVELS, tuple(HORIZONS)).fit(features, np.arange(2760, 276 * 30))
    quantiles = har.predict(features, TEST)
    frame = predictions_frame(features, TEST, quantiles, np.ones((len(TEST), 5)), LEVELS, tuple(HORIZONS))
    return as_arrays(frame, LEVELS, tuple(HORIZONS))


def losses_of(anchors: Forecasts, **rows: np.ndarray) -> SessionLosses:
    forecasts = {"constants": np.broadcast_to(anchors.quantiles.mean(axis=0), anchors.quantiles.shape), **rows}
    every = {**forecasts, "har": anchors.quantiles}  # the last one is what thirds of volatility are told by
    return SessionLosses.of(Compared(anchors=anchors, forecasts=every, config=EvaluateConfig()))


def test_holm_is_his_worked_example_and_never_falls() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([0.02]) == [0.02]


def test_holm_keeps_the_chance_of_any_false_find_below_its_level() -> None:
    p = np.random.default_rng(0).random((4000, 5))
    false = np.mean([min(holm(row)) < 0.05 for row in p])
    assert false == pytest.approx(1 - 0.99**5, abs=0.01)  # five independent true nulls: the least p times five


def test_the_table_adds_up_to_the_losses_of_sessions_parts_and_thirds(anchors: Forecasts) -> None:
    losses = losses_of(anchors)
    loss_NH = metrics.anchor_loss(anchors.quantiles, anchors.targets, LEVELS)
    np.testing.assert_allclose(losses.by_session("har")[:, :5], session_sums(loss_NH, anchors.session))
    base_H = losses.by_session("constants")[:, :5].sum(axis=0)
    relative_N = np.nan_to_num(loss_NH / base_H).mean(axis=1)
    part_N = session_losses.session_part(anchors.ts)
    by_group = losses.by_group("har")
    assert set(by_group) == {*part_N, *session_losses.TERCILES}
    for part in set(part_N):
        assert by_group[part].sum() == pytest.approx(relative_N[part_N == part].sum())
    assert sum(by_group[third].sum() for third in session_losses.TERCILES) == pytest.approx(relative_N.sum())


def test_a_gain_that_one_part_alone_has_is_found_there_and_nowhere_else(anchors: Forecasts) -> None:
    part_N, names = session_losses.session_part(anchors.ts), ("US morning (08:30–12:00)", "Europe (02:00–08:30)")
    worse = anchors.quantiles * np.where(part_N == names[0], 2.0, 1.0)[:, None, None]
    losses = losses_of(anchors, worse=worse)
    resamples = stationary_bootstrap(14, 5.0, 200, np.random.default_rng(0))
    gains = group_gains(losses, "har", "worse", resamples, 0.95)
    assert gains[names[0]]["low"] > 0.05
    assert gains[names[1]] == {"gain": 0.0, "low": 0.0, "high": 0.0}


def test_sessions_won_and_the_sign_test_are_those_of_a_fair_coin() -> None:
    reference = np.ones((10, 1))
    loss = reference - np.array([1, 1, 1, 1, 1, 1, 1, 1, -1, 0])[:, None] * 0.01
    found = session_gains(loss, reference, ["15m"])["15m"]
    assert (found["won"], found["sessions"]) == (8, 9)
    assert found["sign_p"] == pytest.approx(2 * sum(comb(9, k) for k in (8, 9)) / 2**9)
    assert found["median"] == pytest.approx(0.01)


def test_a_trimmed_gain_forgets_the_one_day_that_made_the_gain() -> None:
    reference, loss = np.ones((40, 1)), np.ones((40, 1))
    for one in (0.0, 2.0):  # one session in which nothing was lost, or twice as much
        loss[17] = one
        assert session_gains(loss, reference, ["15m"])["15m"]["trimmed"] == 0
    assert session_gains(0.98 * reference, reference, ["15m"])["15m"]["trimmed"] == pytest.approx(0.02)


def test_the_confidence_set_is_that_of_arch_on_the_same_resamples() -> None:
    bootstrap = pytest.importorskip("arch.bootstrap", reason="arch is in the extra 'baselines'")
    rng = np.random.default_rng(1)
    for spread in (0.0, 0.0, 0.0, 0.02, 0.1):
        losses = rng.normal(size=(80, 1)) + 0.4 * rng.normal(size=(80, 6)) + spread * np.arange(6)
        theirs = bootstrap.MCS(losses, 0.1, reps=200, block_size=5, method="R", bootstrap="stationary", seed=2)
        theirs.compute()
        ours = confidence_set(losses, np.stack(theirs._bootstrap_indices))
        assert ours == pytest.approx(theirs.pvalues["Pvalue"].sort_index().to_numpy(), abs=1e-12)


def test_the_confidence_set_keeps_equal_forecasts_at_its_rate_and_drops_a_worse_one() -> None:
    rng, kept, dropped = np.random.default_rng(2), [], []
    for _ in range(150):
        losses = rng.normal(size=(80, 4)) + np.array([0, 0, 0, 1.0])
        p = confidence_set(losses, stationary_bootstrap(80, 1.0, 200, rng))
        kept.append((p[:3] >= 0.1).all())
        dropped.append(p[3] < 0.1)
    assert 0.82 < np.mean(kept) < 0.97
    assert np.mean(dropped) == 1


def test_forecasts_that_are_the_same_stay_together() -> None:
    losses = np.random.default_rng(3).normal(size=(30, 1)) * np.ones(3)
    assert confidence_set(losses, stationary_bootstrap(30, 5.0, 100, np.random.default_rng(0))).tolist() == [1, 1, 1]


def test_a_scale_that_knows_what_came_beats_every_forecast_and_reads_no_other_anchor(
    features: pd.DataFrame, anchors: Forecasts
) -> None:
    train = np.arange(2760, 276 * 30)
    known = perfect_volatility(features, train, anchors.ts, LEVELS)
    own, har = (metrics.mean_pinball(q, anchors.targets, LEVELS) for q in (known, anchors.quantiles))
    assert (own < har).all()
    assert (np.diff(known, axis=2) >= 0).all()
    later = features.copy()
    later.loc[TEST[100] + 49 :, "realized_variance"] *= 9
    np.testing.assert_array_equal(perfect_volatility(later, train, anchors.ts, LEVELS)[:101], known[:101])


def test_coverage_of_a_part_counts_its_own_outcomes_alone(anchors: Forecasts) -> None:
    morning = session_losses.session_part(anchors.ts) == session_losses.PARTS[2]
    high = np.where(morning[:, None, None], 1.0, anchors.quantiles)
    found = coverage_by_part({"model": high}, anchors)["model"]
    assert list(found) == [
        part for part in session_losses.PARTS if (session_losses.session_part(anchors.ts) == part).any()
    ]
    assert found[session_losses.PARTS[2]]["q05"] == pytest.approx(0.95)
    assert abs(found[session_losses.PARTS[1]]["q05"]) < 0.1

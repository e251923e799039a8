"""Permutation importance against closed forms, and the explanation of a checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from tests.forecast.test_predictor import checkpoint_of
from torch import Tensor, nn

from nqcast.constants import CLOCK, FEATURES
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.significance import stationary_bootstrap
from nqcast.forecast import explain as explaining
from nqcast.forecast.explain import donors, explain, importance, permuted_losses, spread_evenly
from nqcast.report.explanation import explanation_section

HORIZONS = ("15m", "30m", "60m", "2h", "4h")
VALIDATION = np.arange(276 * 31, 276 * 36 - 60)


class ReadsOneFeature(nn.Module):
    """Forecasts the newest value of feature `used` at two horizons; everything else it is given, it ignores."""

    def __init__(self, used: int) -> None:
        super().__init__()
        self.used = used

    def forward(self, features: Tensor, *others: Any) -> dict[str, Tensor]:
        return {"quantiles": features[:, -1, self.used, None, None].repeat(1, 2, 1)}


def windows(values_NF: np.ndarray, giver: np.ndarray) -> list[tuple[dict[str, Any], Tensor]]:
    rows = torch.from_numpy(values_NF)[:, None, :]
    return [({"features": rows[i : i + 700]}, rows[giver[i : i + 700]]) for i in range(0, len(rows), 700)]


def test_an_ignored_feature_has_no_importance_and_the_used_one_that_of_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 3))
    giver = donors(np.full(4000, "all", dtype=object), rng)
    targets = np.repeat(values[:, 1:2], 2, axis=1) + 1.0
    loss, permuted = permuted_losses(windows(values, giver), ReadsOneFeature(1), targets, (0.5,))
    assert loss == pytest.approx(0.5)  # the median is always 1 too low
    assert np.array_equal(permuted[0], loss)
    assert np.array_equal(permuted[2], loss)
    assert permuted[1, :, 0] == pytest.approx(0.5 * np.abs(values[:, 1] + 1 - values[giver, 1]))
    # |N(1, 2)| has mean 2·exp(−1/4)/√π + erf(1/2)
    assert permuted[1].mean() == pytest.approx(0.5 * (2 * np.exp(-0.25) / np.sqrt(np.pi) + 0.520500), rel=0.04)
    session = np.repeat(np.arange(40), 100)
    estimates = importance(loss, permuted, session, stationary_bootstrap(40, 5, 200, rng))
    assert (estimates[0].value == 0).all() and (estimates[0].low == 0).all() and (estimates[0].high == 0).all()
    assert estimates[1].value[2] == pytest.approx(permuted[1].mean() / 0.5 - 1)
    assert estimates[1].low[2] > 0


def test_undefined_outcomes_count_for_nothing() -> None:
    values = np.arange(8.0)[:, None]
    targets = np.stack([values[:, 0], np.where(values[:, 0] < 4, values[:, 0] + 2, np.nan)], axis=1)
    loss, permuted = permuted_losses(windows(values, np.roll(np.arange(8), 1)), ReadsOneFeature(0), targets, (0.5,))
    (one,) = importance(loss[:, 1:], permuted[:, :, 1:], np.zeros(8), np.zeros((10, 1), dtype=np.int64))
    # losses 1 of four anchors; from its neighbour below: 1.5, the first one from value 7: 2.5
    assert one.value[0] == pytest.approx((2.5 + 3 * 1.5) / 4 - 1)


def test_everyone_takes_from_another_of_its_group_and_gives_once() -> None:
    rng = np.random.default_rng(1)
    group = rng.choice(["a", "b", "c"], 500).astype(object)
    group[0] = "alone"
    giver = donors(group, rng)
    assert (group[giver] == group).all()
    assert sorted(giver) == list(range(500))
    assert (giver[1:] != np.arange(1, 500)).all()
    assert giver[0] == 0


def test_a_sample_is_spread_over_the_whole_stretch() -> None:
    positions = np.arange(1000, 3000)
    chosen = spread_evenly(positions, 100)
    assert (chosen[0], chosen[-1], len(chosen)) == (1000, 2999, 100)
    assert np.diff(chosen).max() - np.diff(chosen).min() <= 1
    assert (spread_evenly(positions[:7], 100) == positions[:7]).all()


@pytest.fixture(scope="module")
def features(market: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = market(36)
    return frame.assign(**{name: 1 + np.arange(len(frame)) % 5 for name in CLOCK if name not in frame})


@pytest.mark.parametrize("rolling", [False, True])
def test_a_checkpoint_is_explained_at_a_bounded_sample(features: pd.DataFrame, rolling: bool) -> None:
    checkpoint = checkpoint_of(features, noise=0.2, rolling_quantiles=rolling, rolling_sessions=5)
    config = EvaluateConfig(explain_anchors=30, bootstrap_replications=100, batch_size=11, device="cpu")
    found = explain(checkpoint, features, VALIDATION, config)
    assert found["anchors"]["count"] == 30
    assert set(found["importance"]) == set(found["variable_pool"]) == set(FEATURES)
    assert set(found["importance"]["rv_12"]) == {*HORIZONS, "mean"}
    assert sum(found["variable_pool"].values()) == pytest.approx(1, abs=1e-5)
    for weights in (*found["time"]["pool"].values(), *found["time"]["rollout"].values()):
        assert sum(weights) == pytest.approx(1, abs=1e-5)
    assert all(0 < gate["low"] <= gate["mean"] <= gate["high"] < 1 for gate in found["gates"][0].values())
    parts = "".join(explanation_section(found, HORIZONS))
    assert parts.count("<img") == 3
    assert "the test split is not touched" in parts


def test_the_untrained_start_uses_no_feature_and_newer_patches_come_first(features: pd.DataFrame) -> None:
    config = EvaluateConfig(explain_anchors=20, bootstrap_replications=100, device="cpu")
    found = explain(checkpoint_of(features, seed=1), features, VALIDATION, config)
    assert {row[h]["rise"] for row in found["importance"].values() for h in row} == {0.0}
    for weights in found["time"]["pool"].values():  # half of the heads start sharp on the newest patch
        assert weights[0] == max(weights)


def test_looking_can_be_switched_off(features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(explaining, "predictor_of")
    found = explain(checkpoint_of(features), features, VALIDATION, EvaluateConfig(explain_anchors=0))
    assert found == {"anchors": {"count": 0}}
    assert explanation_section(found, HORIZONS) == []


def test_the_explanation_is_of_validation_and_never_of_test(project_root: Path) -> None:
    from nqcast.pipelines.evaluate import explain_network

    splits = pd.DataFrame({"position": [5, 6, 7], "split": ["train", "validation", "test"]})
    seen: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(explaining, "explain", lambda checkpoint, features, positions, config: seen.append(positions))
        explain_network({}, pd.DataFrame(), splits, EvaluateConfig())
    assert seen[0].tolist() == [6]

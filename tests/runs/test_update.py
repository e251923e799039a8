"""Of the old and the new version the one that validates better goes on; bars that are known change nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import FEATURES
from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import check_no_overlap, make_splits, newest_splits, positions
from nqcast.evaluation.config import EvaluateConfig
from nqcast.runs.recipe import Recipe, agreed, run_anew
from nqcast.runs.refit import Update
from nqcast.runs.run import TrainingRun
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint

from .conftest import SPLIT


@pytest.fixture(scope="module")
def before(features: pd.DataFrame, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    splits = make_splits(features, SPLIT)
    scale = make_scale(recipe.scale, recipe.quantiles).fit(features, positions(splits, "train"))
    configs = agreed(recipe.model, recipe.train, scale, len(FEATURES))
    return train(TrainingRun(features, splits, scale, data_card(features), *configs), tmp_path_factory.mktemp("b"))[0]


def update(features: pd.DataFrame, last: Checkpoint, split: SplitConfig = SPLIT) -> Update:
    return Update(features, data_card(features), last, split, 8, {"epochs": 0}, EvaluateConfig(device="cpu"))


def test_the_better_version_goes_on(features: pd.DataFrame, before: Checkpoint, tmp_path: Path) -> None:
    """Once the old one's quantiles are twice too wide; once the new scale has seen some hours of bars alone."""
    wide = {**before.tensors, "scale.unit_quantiles_HQ": 2 * before.tensors["scale.unit_quantiles_HQ"]}
    wide["model.head.base_HQ"] = 2 * before.tensors["model.head.base_HQ"]
    kept, calibration, report = update(features, replace(before, tensors=wide)).make({}, tmp_path / "wide")
    assert report["status"] == "replaced" and calibration["weights"] == kept.weights_sha256
    assert (kept.tensors["scale.unit_quantiles_HQ"] < wide["scale.unit_quantiles_HQ"]).mean() > 0.4
    first = int(positions(newest_splits(features, SPLIT, 8), "validation")[0])
    poor = SPLIT.model_copy(update={"warmup_bars": first - 288 - 250})
    kept, calibration, report = update(features, before, poor).make({}, tmp_path / "poor")
    assert report["status"] == "kept" and kept.weights_sha256 == before.weights_sha256
    assert calibration["weights"] == before.weights_sha256
    assert kept.trailing["ts"][-1] == features["ts"].iloc[-1].value, "it knows the newest bars all the same"


def test_known_bars_change_nothing(features: pd.DataFrame, before: Checkpoint, tmp_path: Path) -> None:
    first, calibration, _ = update(features, before).make({}, tmp_path)
    second, same, report = update(features, first).make(calibration, tmp_path)
    assert second is first and same is calibration and report["status"] == "nothing new"


def test_what_is_left_to_the_number_of_anchors_is_decided_before_a_new_version_trains(
    features: pd.DataFrame, before: Checkpoint
) -> None:
    splits = newest_splits(features, SPLIT, 8)
    autos = {"windows_per_epoch": "auto", "members": "auto", "horizon_weights": "auto"}
    made = run_anew(before, features, splits, data_card(features), before, **autos).config
    assert (made.members, made.horizon_weights) == (1, "equal") and isinstance(made.windows_per_epoch, int)


def test_the_latest_sessions_validate_and_do_not_overlap_with_train(features: pd.DataFrame) -> None:
    splits = newest_splits(features, SPLIT, 8)
    check_no_overlap(features, splits, SPLIT.context)
    validation = splits[splits["split"] == "validation"]
    assert validation["session"].nunique() == 8 and validation["session"].max() == features["session"].max()
    assert set(splits["split"]) == {"train", "validation"}
    with pytest.raises(ValueError, match=r"lower update\.validation_sessions"):
        newest_splits(features, SPLIT, 59)
    assert np.diff(splits["position"]).min() > 0

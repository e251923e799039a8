"""Several networks as one checkpoint: trained apart, forecast by their mean, through every door of a single one."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import nqcast
from nqcast.constants import FEATURES
from nqcast.data.fingerprint import data_card
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.explain import explain
from nqcast.forecast.export import export_network
from nqcast.forecast.predictor import predict
from nqcast.runs.recipe import Recipe, agreed
from nqcast.runs.run import TrainingRun
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint, checkpoint_files, read_checkpoint
from nqcast.storage.verified import write_folder

from .conftest import SPLIT


@pytest.fixture(scope="module")
def run(features: pd.DataFrame, recipe: Recipe) -> TrainingRun:
    splits = make_splits(features, SPLIT)
    scale = make_scale(recipe.scale, recipe.quantiles).fit(features, positions(splits, "train"))
    loop = recipe.train.model_copy(update={"windows_per_epoch": 512, "epochs": 2, "seed": 4, "members": 3})
    model = recipe.model.model_copy(update={"patch_length": 96})  # few tokens: it is trained twelve times
    configs = agreed(model, loop, scale, len(FEATURES))
    return TrainingRun(features, splits, scale, data_card(features), *configs)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def three(run: TrainingRun, root: Path) -> Checkpoint:
    return train(run, root)[0]


def forecasts(checkpoint: Checkpoint, run: TrainingRun) -> np.ndarray:
    return predict(checkpoint, run.features, positions(run.splits, "validation")[:300])[0]


def test_the_forecast_is_the_mean_of_what_each_network_says(
    run: TrainingRun, three: Checkpoint, tmp_path: Path
) -> None:
    apart = [train(run.with_train(members=1, seed=seed), tmp_path)[0] for seed in (4, 5, 6)]
    each = np.stack([forecasts(one, run) for one in apart])
    assert np.abs(each[0] - each[1]).max() > 1e-7, "other seeds give other networks"
    np.testing.assert_allclose(forecasts(three, run), each.mean(axis=0), rtol=1e-6)
    assert (np.diff(forecasts(three, run)) > 0).all()
    for number, one in enumerate(apart):
        assert three.member(number).part("model").keys() == one.part("model").keys()
        assert (forecasts(three.member(number), run) == forecasts(one, run)).all()


def test_one_network_is_named_and_written_as_ever(run: TrainingRun, root: Path) -> None:
    """The number of networks is no part of a run's name: those that there are serve a checkpoint of more."""
    one = run.with_train(members=1)
    assert one.fingerprint == run.fingerprint
    checkpoint = train(one, root)[0]
    assert checkpoint.members == 0 and "model.head.base_HQ" in checkpoint.tensors


def test_what_was_trained_is_not_trained_again(
    run: TrainingRun, three: Checkpoint, root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As after a stop: the networks that have ended are read back, the others are trained."""
    caplog.set_level(logging.INFO)
    four, history = train(run.with_train(members=4), root)
    assert caplog.text.count("resuming from checkpoint_epoch_0002") == 3
    assert [four.member(k).weights_sha256 for k in range(3)] == [three.member(k).weights_sha256 for k in range(3)]
    assert [record["epoch"] for record in history] == [0, 1, 2]
    assert four.metadata.fingerprint != three.metadata.fingerprint
    assert len(four.metadata.metrics["member_epochs"]) == 4


def test_the_history_is_the_mean_over_the_networks(run: TrainingRun, three: Checkpoint, root: Path) -> None:
    history = train(run, root)[1]
    losses = [[record["val_loss"] for record in train(run.member(k), root)[1]] for k in range(3)]
    assert [record["val_loss"] for record in history] == pytest.approx(np.mean(losses, axis=0))


def test_it_is_read_back_loaded_looked_into_and_exported(run: TrainingRun, three: Checkpoint, tmp_path: Path) -> None:
    write_folder(tmp_path / "checkpoint", checkpoint_files(three), "manifest.sha256")
    read = read_checkpoint(tmp_path / "checkpoint")
    assert read.weights_sha256 == three.weights_sha256
    loaded = nqcast.load(tmp_path / "checkpoint").quantiles(run.features.iloc[:7000])
    np.testing.assert_allclose(loaded, predict(three, run.features.iloc[:7000], np.array([6999]))[0][0], rtol=1e-5)
    assert export_network(three, tmp_path / "network.pt2") < 1e-5
    looked = explain(three, run.features, positions(run.splits, "validation"), EvaluateConfig(explain_anchors=8))
    assert len(looked["gates"]) == run.model.n_variable_blocks


def test_a_run_starts_warm_from_each_networks_own_weights(run: TrainingRun, three: Checkpoint, tmp_path: Path) -> None:
    still = replace(run.with_train(epochs=0), warm_start=three)
    assert (forecasts(train(still, tmp_path)[0], run) == forecasts(three, run)).all()
    with pytest.raises(ValueError, match="expected 4 networks or more in the checkpoint, found 3"):
        train(still.with_train(members=4), tmp_path)


def test_a_warm_run_does_not_call_its_start_the_volatility_model(
    run: TrainingRun, three: Checkpoint, tmp_path: Path
) -> None:
    """Its epochs are held to the scale alone, where a cold run begins, and to the weights that it begins with."""
    cold, warm = run.with_train(epochs=0), replace(run.with_train(epochs=0), warm_start=three.member(0))
    [begun], [found] = train(cold, tmp_path / "cold")[1], train(warm, tmp_path / "warm")[1]
    assert begun["skill_seasonal_har"] == found["skill_warm_start"] == 0.0 and "skill_warm_start" not in begun
    for name in run.config.horizons:
        skill = 1 - found[f"loss_{name}"] / begun[f"loss_{name}"]
        assert abs(skill) > 1e-5 and found[f"skill_seasonal_har_{name}"] == pytest.approx(skill, abs=1e-6)


def test_a_network_that_is_not_whole_is_refused(run: TrainingRun, three: Checkpoint) -> None:
    lost = {name: array for name, array in three.tensors.items() if name != "model.members.1.head.delta.bias"}
    with pytest.raises(ValueError, match=r"missing members\.1\.head\.delta\.bias"):
        forecasts(replace(three, tensors=lost), run)


def test_an_untrained_network_does_not_come_back_in_silence(
    run: TrainingRun, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lost = train(run.with_train(members=2, learning_rate=3.0, epochs=1), tmp_path)[0]
    assert lost.metadata.best_epochs == [0, 0]
    assert caplog.text.count("no epoch was better on validation than the untrained network") == 2

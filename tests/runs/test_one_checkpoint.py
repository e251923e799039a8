"""What training writes, the catalog keeps and `nqcast.load` reads are one thing, bound to its numbers by their hash."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from tests.storage.test_checkpoint import write_first_format

import nqcast
from nqcast.constants import FEATURES, HORIZONS
from nqcast.data.fingerprint import data_card
from nqcast.data.seasonal_har import make_scale, scale_from_state
from nqcast.data.splits import make_splits, positions
from nqcast.datasets import CheckpointDataset, VerifiedDataset
from nqcast.evaluation.calibration import Calibration, calibrated_quantiles, fit_calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, as_arrays
from nqcast.forecast.predictor import predict, predict_frame
from nqcast.runs.recipe import Recipe, agreed
from nqcast.runs.run import TrainingRun
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint, read_checkpoint

from .conftest import SPLIT


@pytest.fixture(scope="module")
def run(features: pd.DataFrame, recipe: Recipe) -> TrainingRun:
    splits = make_splits(features, SPLIT)
    scale = make_scale(recipe.scale, recipe.quantiles).fit(features, positions(splits, "train"))
    fields = {"windows_per_epoch": 600, "epochs": 1}
    configs = agreed(recipe.model, recipe.train.model_copy(update=fields), scale, len(FEATURES))
    return TrainingRun(features, splits, scale, data_card(features), *configs)


def longer(run: TrainingRun, epochs: int) -> TrainingRun:
    return dataclasses.replace(run, config=run.config.model_copy(update={"epochs": epochs}))


@pytest.fixture(scope="module")
def root(run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models: the run of one epoch, its checkpoint and its calibration, as the catalog saves them."""
    root = tmp_path_factory.mktemp("06_models")
    save(root, train(run, root / "runs")[0], "2026-01-01T00.00.00.000Z", anchors_of(run, root))
    return root


def anchors_of(run: TrainingRun, root: Path) -> Forecasts:
    checkpoint = read_checkpoint(root / "runs" / run.fingerprint / "checkpoint_best")
    frame = predict_frame(checkpoint, run.features, positions(run.splits, "validation"))
    return as_arrays(frame, run.config.quantiles, tuple(HORIZONS))


def save(root: Path, checkpoint: Checkpoint, stamp: str, anchors: Forecasts | None) -> None:
    CheckpointDataset(filepath=str(root / "checkpoint"), version=Version(None, stamp)).save(checkpoint)
    if anchors is not None:
        state = fit_calibration(anchors, checkpoint, EvaluateConfig())
        path, version = str(root / "calibration.json"), Version(None, stamp)
        VerifiedDataset(filepath=path, dataset="json.JSONDataset", version=version).save(state.to_json())


def test_a_working_checkpoint_forecasts_what_the_catalogs_does_with_its_calibration(
    run: TrainingRun, root: Path
) -> None:
    working = nqcast.load(root / "runs" / run.fingerprint / "checkpoint_best")
    kept = nqcast.load(root / "checkpoint")
    assert (working.quantiles(run.features) == kept.quantiles(run.features)).all()
    assert working.calibration is not None and working.metadata == kept.metadata


def test_the_catalogs_checkpoint_and_a_working_one_start_a_run_alike(
    run: TrainingRun, root: Path, tmp_path: Path
) -> None:
    ends = []
    working, kept = root / "runs" / run.fingerprint / "checkpoint_best", next((root / "checkpoint").iterdir())
    for name, folder in (("working", working), ("kept", kept / "checkpoint")):
        warm = dataclasses.replace(run, warm_start=read_checkpoint(folder))
        assert warm.fingerprint != run.fingerprint
        ends.append(train(warm, tmp_path / name)[0])
    assert ends[0].weights_sha256 == ends[1].weights_sha256


def test_data_splits_scale_model_and_training_name_a_run_and_what_computes_nothing_does_not(run: TrainingRun) -> None:
    arrays, scalars = run.scale.state()
    others = [
        dataclasses.replace(run, data_card=dataclasses.replace(run.data_card, fingerprint="other")),
        dataclasses.replace(run, splits=run.splits.iloc[1:]),
        dataclasses.replace(run, scale=scale_from_state(arrays, {**scalars, "levels": [0.5]})),
        dataclasses.replace(run, model=run.model.model_copy(update={"dropout": 0.42})),
        run.with_train(learning_rate=0.042),
        run.with_train(seed=42),
    ]
    assert len({run.fingerprint, *(other.fingerprint for other in others)}) == len(others) + 1
    assert run.with_train(every_minutes=3.0, epochs=9).fingerprint == run.fingerprint


def test_more_epochs_of_the_same_run_refuse_the_calibration_of_fewer(
    run: TrainingRun, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A kill between checkpoint and calibration leaves new weights beside an old calibration, of one fingerprint."""
    shutil.copytree(root, tmp_path / "models", symlinks=True)
    models, more = tmp_path / "models", longer(run, 3)
    assert more.fingerprint == run.fingerprint
    text = next((models / "calibration.json").glob("*/calibration.json")).read_text()
    old = Calibration.from_json(json.loads(text))
    checkpoint, _ = train(more, models / "runs")
    save(models, checkpoint, "2026-01-02T00.00.00.000Z", None)
    assert nqcast.load(models / "checkpoint").calibration is None
    assert "with these weights" in caplog.text
    for use in (
        lambda: nqcast.load(models / "checkpoint", calibration=models / "calibration.json"),
        lambda: calibrated_quantiles(anchors_of(run, root), old, checkpoint.weights_sha256),
    ):
        with pytest.raises(ValueError, match="fitted for the weights"):
            use()
    before = nqcast.load(next((models / "checkpoint").glob("2026-01-01*")) / "checkpoint")
    assert before.calibration is not None


def test_where_the_newest_calibration_is_damaged_the_right_one_is_taken(
    run: TrainingRun, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(root, tmp_path / "models", symlinks=True)
    versions = tmp_path / "models" / "calibration.json"
    shutil.copytree(versions / "2026-01-01T00.00.00.000Z", versions / "2026-01-03T00.00.00.000Z")
    newest = versions / "2026-01-03T00.00.00.000Z" / "calibration.json"
    newest.write_text(newest.read_text().replace("0.", "9.", 1))
    found = nqcast.load(tmp_path / "models" / "checkpoint").calibration
    assert found is not None and np.isfinite(found.offset_HQ).all()
    assert "passed over" in caplog.text


def test_a_run_that_starts_anew_is_followed_once_the_earlier_one_is_aside(
    run: TrainingRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows it would take the earlier run's metrics for its own."""
    found: list[bool] = []
    monkeypatch.setattr("nqcast.runs.train.follow", lambda folder: found.append((folder / "metrics.jsonl").exists()))
    for resume in ("auto", "auto", "never"):
        train(run.with_train(resume=resume), tmp_path)
    assert found == [False, True, False]
    [directory] = tmp_path.iterdir()
    assert (directory / "replaced_001" / "metrics.jsonl").exists()


def test_a_run_of_the_first_format_goes_on_and_ends_bit_equal(
    run: TrainingRun, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its folders hold neither scale nor prefixes; the run goes on from them and its artifact has both."""
    directory = tmp_path / "runs" / run.fingerprint
    shutil.copytree(root / "runs" / run.fingerprint, directory, symlinks=True)
    for folder in directory.glob("checkpoint_epoch_*"):
        made = read_checkpoint(folder)
        assert made.training is not None
        shutil.rmtree(folder)
        moments = {name.removeprefix("optimizer."): array for name, array in made.training.tensors.items()}
        state = {**made.training.state, "train_config": made.metadata.train, "model_config": made.metadata.model}
        write_first_format(folder, made.part("model"), moments, state)
    with caplog.at_level(logging.INFO):
        old, _ = train(longer(run, 2), tmp_path / "runs")
    new, _ = train(longer(run, 2), tmp_path / "anew")
    assert "resuming from checkpoint_epoch_0001" in caplog.text and "earlier format" in caplog.text
    assert old.weights_sha256 == new.weights_sha256
    rows = positions(run.splits, "validation")[:50]
    assert (predict(old, run.features, rows)[0] == predict(new, run.features, rows)[0]).all()

"""Walk-forward: what is finished stays, what fails is told, and no fold knows what came after it."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nqcast.data.splits import make_splits, positions
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import Calibration
from nqcast.evaluation.frames import as_arrays
from nqcast.experiments.folds import plan_folds
from nqcast.experiments.walk_forward import WalkForward, join_folds, render_folds, score_folds
from nqcast.fields import changed
from nqcast.runs.recipe import Recipe
from nqcast.stopping import TrainingInterruptedError
from nqcast.storage.checkpoint import DataCard

HORIZONS = ("15m", "30m", "60m", "2h", "4h")
Ran = tuple[dict[str, Any], list[dict[str, Any]]]


def run(walk: WalkForward, features: pd.DataFrame, root: Path, finished: dict[str, Any] | None = None) -> Ran:
    """All partitions of a run by name, and its log."""
    partitions: dict[str, Any] = {}
    log = []
    for made, entry in walk.run(features, {k: (lambda v=v: v) for k, v in (finished or {}).items()}, root):
        partitions |= made
        log.append(entry)
    return partitions, log


@pytest.fixture(scope="module")
def ran(walk: WalkForward, features: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return run(walk, features, tmp_path_factory.mktemp("folds"))


def status(log: list[dict[str, Any]]) -> list[str]:
    return [entry["status"] for entry in log]


def test_a_finished_fold_is_skipped_and_a_missing_one_is_made_again_bit_for_bit(
    walk: WalkForward, features: pd.DataFrame, ran: Ran, tmp_path: Path
) -> None:
    partitions, log = ran
    assert status(log) == ["finished"] * 3
    second = log[1]["partition"]
    again, told = run(walk, features, tmp_path, {k: v for k, v in partitions.items() if k != second})
    assert status(told) == ["skipped", "finished", "skipped"]
    assert list(again) == [second]
    pd.testing.assert_frame_equal(again[second]["frame"], partitions[second]["frame"])


def test_another_setting_makes_another_fold(walk: WalkForward, features: pd.DataFrame, ran: Ran) -> None:
    names = set(ran[0])
    recipe = walk.recipe
    for other in (
        dataclasses.replace(walk, recipe=dataclasses.replace(recipe, train=changed(recipe.train, {"epochs": 2}))),
        dataclasses.replace(walk, recipe=dataclasses.replace(recipe, scale=changed(recipe.scale, {"ridge": 0.5}))),
        dataclasses.replace(walk, evaluate=changed(walk.evaluate, {"online_rate": 0.07})),
    ):
        card = DataCard("x")
        fold = plan_folds(features, walk.split, walk.config)[0]
        assert walk._fingerprint(fold, card, None) != other._fingerprint(fold, card, None)
    same = dataclasses.replace(walk, recipe=dataclasses.replace(recipe, train=changed(recipe.train, {"log_every": 7})))
    assert walk._fingerprint(fold, card, None) == same._fingerprint(fold, card, None)
    assert len(names) == 3


def test_bars_after_a_fold_change_no_forecast_of_it(
    walk: WalkForward, features: pd.DataFrame, ran: Ran, tmp_path: Path
) -> None:
    partitions, log = ran
    changed = features.copy()
    later = changed["session"] > pd.Timestamp(log[0]["test_end"])
    numbers = changed.select_dtypes("float64").columns
    noise = np.random.default_rng(0).normal(size=(int(later.sum()), len(numbers)))
    changed.loc[later, numbers] = noise
    first = next(iter(walk.run(changed, {}, tmp_path)))[0]
    ((_, other),) = first.items()
    pd.testing.assert_frame_equal(other["frame"], partitions[log[0]["partition"]]["frame"])


def test_a_fold_that_fails_is_reported_and_the_others_go_on(
    walk: WalkForward, features: pd.DataFrame, ran: Ran, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = Recipe.make

    def break_second(self: Recipe, seen: pd.DataFrame, splits: pd.DataFrame, card: Any, root: Path, warm: Any) -> Any:
        if root.name.startswith("fold_02"):
            raise RuntimeError("the disk is on fire")
        return make(self, seen, splits, card, root, warm)

    monkeypatch.setattr(Recipe, "make", break_second)
    partitions, log = run(walk, features, tmp_path)
    assert status(log) == ["finished", "failed", "finished"]
    assert log[1]["error"] == "RuntimeError: the disk is on fire"
    frame, folds = join_folds({k: (lambda v=v: v) for k, v in partitions.items()}, log)
    assert set(frame["fold"]) == {"fold_01", "fold_03"}
    text = render_folds(folds)
    assert "2 of 3 folds" in text
    large = [
        {**fold, "anchors": {"train": 900_000, "validation": 90_000, "test": 90_000}}
        for fold in folds
        if fold["status"] != "failed"
    ]
    assert max(map(len, render_folds(large).splitlines())) <= 80
    assert "FAILED fold_02" in text
    assert "the disk is on fire" in text
    without = [fold for fold in folds if fold["status"] != "failed"]
    score = partial(score_folds, frame, levels=walk.recipe.quantiles, config=walk.evaluate)
    assert [score(entries)["exit_status"] for entries in (folds, without)] == [4, 0]
    for name, partition in partitions.items():
        pd.testing.assert_frame_equal(partition["frame"], ran[0][name]["frame"])


def test_a_stop_of_the_run_is_no_failure_of_a_fold(
    walk: WalkForward, features: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: Any) -> Any:
        raise TrainingInterruptedError("asked to stop")

    monkeypatch.setattr(Recipe, "make", stop)
    with pytest.raises(TrainingInterruptedError):
        next(walk.run(features, {}, tmp_path))


def test_a_warm_start_comes_from_an_earlier_fold_alone(
    walk: WalkForward, features: pd.DataFrame, ran: Ran, tmp_path: Path
) -> None:
    warm = dataclasses.replace(walk, config=changed(walk.config, {"warm_start": True}))
    partitions, log = run(warm, features, tmp_path)
    made = [partitions[entry["partition"]] for entry in log]
    sources = [partition["record"]["warm_start"] for partition in made]
    assert sources == [None, *(partition["record"]["checkpoint"] for partition in made[:-1])]
    cold = [entry["partition"] for entry in ran[1]]
    assert [entry["partition"] == name for entry, name in zip(log, cold, strict=True)] == [True, False, False]


def test_a_warm_start_takes_the_weights_and_leaves_the_constants_to_the_new_anchors(
    walk: WalkForward, features: pd.DataFrame, ran: Ran, tmp_path: Path
) -> None:
    earlier = ran[0][ran[1][0]["partition"]]["checkpoint"]
    tensors = {n: a + 0.1 if n.startswith("model.head.delta") else a for n, a in earlier.tensors.items()}
    moved = dataclasses.replace(earlier, tensors=tensors)
    still = dataclasses.replace(walk.recipe, train=changed(walk.recipe.train, {"epochs": 0}))
    fold = plan_folds(features, walk.split, walk.config)[2]
    splits = make_splits(features, fold.split)
    started, _ = still.make(features, splits, DataCard("x"), tmp_path, moved)
    refitted = {"model.norm.feature_mean_F", "model.norm.feature_std_F", "model.head.base_HQ"}
    for name, array in started.tensors.items():
        if name.startswith("model."):
            assert np.array_equal(array, tensors[name]) == (name not in refitted), name
    other = dataclasses.replace(still, model=changed(still.model, {"d_ff": 48}))
    with pytest.raises(ValueError, match="expected a warm start from a checkpoint of the same model"):
        other.make(features, splits, DataCard("x"), tmp_path / "other", moved)


def test_each_fold_is_calibrated_on_its_own_validation(walk: WalkForward, features: pd.DataFrame, ran: Ran) -> None:
    for (_, partition), fold in zip(ran[0].items(), plan_folds(features, walk.split, walk.config), strict=True):
        state = partition["record"]["calibration"]
        assert fold.dates["validation_start"] <= str(pd.Timestamp(state["anchors"]["last"]).date())
        assert pd.Timestamp(state["anchors"]["last"]).date() < fold.split.test_start
        assert pd.Timestamp(state["anchors"]["first"]).date() >= fold.split.validation_start - pd.Timedelta(days=3)
        frame = partition["frame"]
        raw, moved = (
            as_arrays(frame[frame["forecast"] == name], walk.recipe.quantiles, HORIZONS)
            for name in ("model", "model_conformal")
        )
        calibration = Calibration.from_json(state).conformal(
            partition["checkpoint"].weights_sha256, partition["checkpoint"].metadata.quantiles, HORIZONS
        )
        assert (calibration.apply(raw.quantiles, raw.scale) == moved.quantiles).all()


def test_the_joined_record_scores_every_fold_at_once(walk: WalkForward, ran: Ran) -> None:
    partitions, log = ran
    frame, folds = join_folds({k: (lambda v=v: v) for k, v in partitions.items()}, log)
    scores = score_folds(frame, folds, walk.recipe.quantiles, walk.evaluate)
    levels = walk.recipe.quantiles
    parts = [p["frame"][p["frame"]["forecast"] == "log_har"] for p in partitions.values()]
    pooled = as_arrays(pd.concat(parts), levels, HORIZONS)
    loss = metrics.mean_pinball(pooled.quantiles, pooled.targets, levels)
    assert scores["table"]["log_har"]["30m"]["mean_pinball"] == pytest.approx(loss[1])
    rows = {"constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har"}
    assert set(scores["table"]) == {*rows, "model", "model_conformal", "model_online"}
    assert 0 < scores["gains"]["constants"]["15m"]["p_value"] < 0.05
    assert "15 sessions" in scores["anchors"]
    assert "3 of 3 folds" in scores["text"]


def test_baselines_are_fitted_again_on_the_train_anchors_of_every_fold(
    walk: WalkForward, features: pd.DataFrame, ran: Ran
) -> None:
    for (_, partition), fold in zip(ran[0].items(), plan_folds(features, walk.split, walk.config), strict=True):
        train = positions(make_splits(features, fold.split), "train")
        constants = partition["frame"].query("forecast == 'constants' and horizon == '15m'")
        assert constants["q05"].unique() == pytest.approx([features["target_15m"].iloc[train].quantile(0.05)])


def test_a_record_without_a_finished_fold_says_why(ran: Ran) -> None:
    log = [{**entry, "status": "failed", "error": "ValueError: no luck"} for entry in ran[1]]
    with pytest.raises(ValueError, match="fold_01: ValueError: no luck"):
        join_folds({}, log)


def test_only_the_newest_run_of_the_log_is_joined(ran: Ran) -> None:
    partitions, log = ran
    old = [{**entry, "partition": "gone", "status": "failed", "error": "old"} for entry in log]
    frame, folds = join_folds({k: (lambda v=v: v) for k, v in partitions.items()}, [*old, *log])
    assert len(folds) == 3
    assert {fold["status"] for fold in folds} == {"finished"}
    assert len(frame) == sum(len(p["frame"]) for p in partitions.values())

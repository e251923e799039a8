"""Trials repeat exactly, an interrupted study ends like an uninterrupted one, and the test split is never seen."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import optuna
import pandas as pd
import pytest
import yaml
from matplotlib import pyplot
from tests.experiments.conftest import SPLIT

from nqcast.data.splits import label_end, make_splits, positions
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.tuning import NotFiniteError, Trials, Tuning, load_optuna
from nqcast.experiments.tuning_report import as_params, render_tuning, run_config
from nqcast.parameters import check_parameters
from nqcast.report.figures.training import tuning_figures
from nqcast.runs.recipe import Recipe
from nqcast.training.config import TrainConfig

SPACE = {
    "train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
    "model.n_time_blocks": {"low": 0, "high": 2},
    "model.recent_bars": {"choices": [[1, 3, 12], [1]]},
}
LOSS = {"learning_rate": 3e-3}


class Bowl:
    """A training without a network: the loss is a bowl around learning_rate 3e-3 and falls from epoch to epoch."""

    def __init__(self, dies_in: tuple[int, int] | None = None) -> None:
        self.dies_in, self.calls = dies_in, 0

    def __call__(self, parameters: dict[str, Any], folder: Path, follower: Any) -> list[dict[str, Any]]:
        history = [{"epoch": 0, "val_loss": 9.0}]
        follower.log(history[0], step=0)
        for epoch in (1, 2, 3):
            if self.dies_in == (self.calls, epoch):
                raise KeyboardInterrupt
            gap = abs(np.log(parameters["train.learning_rate"] / LOSS["learning_rate"]))
            history.append({"epoch": epoch, "val_loss": float(gap + 1 / epoch)})
            follower.log(history[-1], step=epoch)
        self.calls += 1
        return history


def finish(folder: Path, config: TuneConfig, train: Callable[..., Any], recipe: Recipe) -> list[dict[str, Any]]:
    tuning = Tuning(SPLIT, recipe, config)
    pruner = tuning._pruner()
    storage = optuna.storages.RDBStorage(f"sqlite:///{folder}/s.db")
    study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True, pruner=pruner)
    trials = Trials(config, tuning.configured(), tuning.distributions(), study, folder)
    try:
        trials.finish(train)
        return trials.rows()
    finally:
        storage.remove_session()
        storage.engine.dispose()


def told(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What must repeat: parameters, states and values of the trials that ended."""
    return [(row["state"], row["value"], row["parameters"]) for row in rows if row["state"] != "failed"]


@pytest.fixture
def config() -> TuneConfig:
    return TuneConfig(trials=10, startup_trials=3, space=SPACE)


def test_a_study_that_was_cut_short_and_went_on_is_the_study_in_one_go(
    config: TuneConfig, recipe: Recipe, tmp_path: Path
) -> None:
    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = finish(tmp_path / "whole", config, Bowl(), recipe)
    finish(tmp_path / "parts", config.model_copy(update={"trials": 4}), Bowl(), recipe)
    with pytest.raises(KeyboardInterrupt):
        finish(tmp_path / "parts", config, Bowl(dies_in=(2, 2)), recipe)
    parts = finish(tmp_path / "parts", config, Bowl(), recipe)
    assert told(parts) == told(whole)
    assert len(told(whole)) == 10
    assert {state for state, *_ in told(whole)} == {"complete", "pruned"}
    assert [row["state"] for row in parts].count("failed") == 1
    assert finish(tmp_path / "parts", config, Bowl(dies_in=(0, 1)), recipe) == parts


def test_another_seed_draws_other_trials_after_the_configured_one(
    config: TuneConfig, recipe: Recipe, tmp_path: Path
) -> None:
    found = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        found.append(
            finish(tmp_path / str(seed), config.model_copy(update={"seed": seed, "trials": 3}), Bowl(), recipe)
        )
    assert [row["configured"] for row in found[0]] == [True, False, False]
    assert found[0][0]["parameters"] == found[1][0]["parameters"]
    assert found[0][0]["parameters"]["train.learning_rate"] == recipe.train.learning_rate
    assert found[0][1]["parameters"] != found[1][1]["parameters"]


def test_trials_that_cannot_be_are_failed_with_their_reason_and_end_the_search_when_there_are_too_many(
    config: TuneConfig, recipe: Recipe, tmp_path: Path
) -> None:
    def broken(parameters: dict[str, Any], folder: Path, follower: Any) -> Any:
        follower.log({"epoch": 1, "val_loss": float("nan")}, step=1)

    with pytest.raises(ValueError, match=r"at most 2 failed trials, found 3.*finite val_loss.*tune\.most_failures"):
        finish(tmp_path, config.model_copy(update={"most_failures": 2}), broken, recipe)
    assert issubclass(NotFiniteError, ValueError)


def test_without_optuna_the_cure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ValueError, match=r"expected optuna.*pip install 'nqcast\[tune\]'"):
        load_optuna()


@pytest.fixture(scope="module")
def small(recipe: Recipe) -> Tuning:
    space = {"train.learning_rate": SPACE["train.learning_rate"], "model.recent_bars": SPACE["model.recent_bars"]}
    train = {"windows_per_epoch": 128, "epochs": 2}
    return Tuning(SPLIT, recipe, TuneConfig(trials=2, startup_trials=1, prune=False, train=train, space=space))


@pytest.mark.slow
def test_real_trials_see_no_bar_after_validation_and_leave_metrics_alone(
    small: Tuning, features: pd.DataFrame, tmp_path: Path
) -> None:
    splits = make_splits(features, SPLIT)
    after = int(label_end(features)[positions(splits, "validation")].max()) + 1
    changed = features.copy()
    numbers = changed.select_dtypes("float64").columns
    changed.loc[after:, numbers] = np.abs(np.random.default_rng(0).normal(size=(len(features) - after, len(numbers))))
    first, second = small.run(features, tmp_path / "first"), small.run(changed, tmp_path / "second")
    assert [row["value"] for row in first["trials"]] == [row["value"] for row in second["trials"]]
    assert first["configured"] == first["trials"][0]["value"]
    assert first["best"]["value"] == min(row["value"] for row in first["trials"])
    folder = tmp_path / "first" / first["study"] / "trial_0001"
    assert [path.name for path in folder.glob("*/checkpoint*")] == []
    lines = [json.loads(line) for line in next(folder.glob("*/metrics.jsonl")).read_text().splitlines()]
    assert min(line["val_loss"] for line in lines if line.get("epoch")) == first["trials"][1]["value"]


ROWS = [
    {"trial": i, "state": state, "value": value, "epochs": 3, "seconds": 1.0, "configured": i == 0,
     "parameters": {"train.learning_rate": rate, "model.recent_bars": [1, 3, 12], "model.size": "laptop"}}
    for i, (state, value, rate) in enumerate(
        [("complete", 0.3, 1e-3), ("pruned", 0.31, 2e-3), ("complete", 0.27, 1.25e-05), ("failed", None, 9e-3)]
    )
]  # fmt: skip
TOLD = {"study": "tune_x", "objective": "val_loss", "anchors": "9 validation anchors", "trials": ROWS,
        "best": ROWS[2], "configured": 0.3}  # fmt: skip


def test_the_best_is_written_as_run_parameters_that_validate() -> None:
    run = yaml.safe_load(run_config(TOLD, "nq"))["run"]
    params = run["params"]
    assert run["env"] == "nq"
    assert params == {"train": {"learning_rate": 1.25e-05}, "model": {"recent_bars": [1, 3, 12], "size": "laptop"}}
    checked = check_parameters(params)
    assert checked.train == TrainConfig(learning_rate=1.25e-05)
    assert as_params(ROWS[2]["parameters"]) == 'train.learning_rate=1.25e-05,model.size="laptop"'


def test_the_table_ranks_whole_trials_and_states_the_gain_over_the_configured_values() -> None:
    text = render_tuning(TOLD)
    lines = text.splitlines()
    assert "4 trials (2 complete, 1 pruned, 1 cut short)" in lines[0] and "The best of 3 is" in text
    broken = [*ROWS[:3], {**ROWS[3], "error": "ValueError: no"}]
    assert "1 pruned, 1 failed)" in render_tuning({**TOLD, "trials": broken})
    trials = [line for line in lines[4:] if line[:5].strip().isdecimal()]
    assert [line.split()[0] for line in trials] == ["2", "0", "1"]
    assert "+10.00" in trials[0] and trials[1].endswith("configured")


def test_the_table_of_trials_fits_a_terminal_whatever_is_searched() -> None:
    many = {f"model.a_rather_long_name_{n}": 0.123456789 for n in range(9)}
    rows = [{**row, "parameters": many} for row in ROWS]
    anchors = "1,311 validation anchors in 5 sessions, 2016-03-10 to 2016-03-16"
    table, command = render_tuning({**TOLD, "trials": rows, "best": rows[2], "anchors": anchors}).rsplit("\n", 1)
    assert max(map(len, table.splitlines())) <= 80 and command.startswith("kedro run --pipelines train --params ")
    assert all(" ".join(table.split()).count(f"{name}=0.1235") == 3 for name in many)


def test_optunas_figures_show_the_history_and_a_panel_for_every_parameter_and_leave_no_style_behind() -> None:
    before = dict(matplotlib.rcParams)
    rates = {"low": 1e-5, "high": 1e-2, "log": True}
    space = TuneConfig(
        space={**SPACE, "train.learning_rate": rates, "model.size": {"choices": ["laptop", "full"]}}
    ).space
    history, parameters = tuning_figures(TOLD, {name: space[name] for name in ROWS[0]["parameters"]})
    assert history.axes[0].get_ylabel() == "val_loss"
    points = [tuple(map(float, point)) for point in history.axes[0].collections[0].get_offsets()]
    assert points == [(0.0, 0.3), (1.0, 0.27)]  # the whole trials
    labels = [axes.get_xlabel() for axes in parameters.axes if axes.get_xlabel()]
    assert labels == ["model.recent_bars", "model.size", "train.learning_rate"]
    assert parameters.axes[2].get_xscale() == "log"
    assert {name: value for name, value in before.items() if matplotlib.rcParams[name] != value} == {}
    assert not pyplot.get_fignums()


def test_a_trial_that_is_tried_again_keeps_its_folder_its_epochs_and_that_it_was_configured(
    config: TuneConfig, recipe: Recipe, tmp_path: Path
) -> None:
    """By Optuna's own callback, twice."""
    folders: list[str] = []

    class Seen(Bowl):
        def __call__(self, parameters: dict[str, Any], folder: Path, follower: Any) -> list[dict[str, Any]]:
            folders.append(folder.name)
            return super().__call__(parameters, folder, follower)

    for dies_in in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            finish(tmp_path, config, Seen(dies_in=(0, dies_in)), recipe)
    rows = finish(tmp_path, config.model_copy(update={"trials": 1}), Seen(), recipe)
    assert folders == ["trial_0000"] * 3
    assert [(row["state"], row["epochs"], row["configured"]) for row in rows] == [
        ("failed", 1, True),
        ("failed", 2, True),
        ("complete", 3, True),
    ]

"""`kedro run --pipelines tune` as a user runs it: stopped, gone on, seen in MLflow, and its best taken by train."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import sqlite3
from pathlib import Path

import pytest
from tests.faults.kedro_process import KedroProcess
from tests.kedro_command import kedro, newest, output_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a minute in all; more on a machine with other work


@pytest.fixture(scope="module")
def tuned(toy_features: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, str]:
    """Data folder, and the output of a search that was stopped in its second trial and of the same command again."""
    data = shutil.copytree(toy_features, tmp_path_factory.mktemp("tuned") / "data with spaces")
    process = KedroProcess("run", "--env", "test", "--pipelines", "tune", data=data)
    process.wait_for("trial 0 complete")
    process.wait_for("epoch   1")
    process.send(signal.SIGTERM)
    status, _ = process.end(timeout=120)
    assert status == 143, process.output[-3000:]
    again = kedro("run", "--env", "test", "--pipelines", "tune", data=data, timeout=600)
    return data, process.output, output_of(again)


def test_the_same_command_goes_on_and_a_cut_trial_is_replaced(tuned: tuple[Path, str, str]) -> None:
    data, _, output = tuned
    scores = json.loads((data / "08_reporting" / "tuning_scores.json").read_text())
    states = [row["state"] for row in scores["trials"]]
    assert states.count("failed") == 1 and states[1] == "failed"
    assert len(states) - 1 == 3
    assert scores["trials"][2]["parameters"] == scores["trials"][1]["parameters"]
    assert "1 of 3 trials have ended" in output
    assert "resuming from checkpoint" in output  # the replacement went on where the cut trial stood
    assert "validation anchors" in output and "gain is over the configured values" in output
    for chart in ("tuning_history_chart.png", "tuning_chart.png"):
        assert (data / "08_reporting" / chart).read_bytes().startswith(b"\x89PNG")
    assert not (data / "08_reporting" / "test_uses.jsonl").exists()


def test_trials_are_nested_runs_of_mlflow(tuned: tuple[Path, str, str]) -> None:
    data, *_ = tuned
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        rows = store.execute(
            "select child.name, child.status, p.value, parent.status from runs child"
            " join tags t on t.run_uuid = child.run_uuid and t.key = 'mlflow.parentRunId'"
            " join runs parent on parent.run_uuid = t.value"
            " join params p on p.run_uuid = child.run_uuid and p.key = 'train.learning_rate' order by 1, 2"
        ).fetchall()
        curves = store.execute(
            "select count(*) from metrics m join tags t on t.run_uuid = m.run_uuid and t.key = 'mlflow.parentRunId'"
            " where m.key = 'val_loss'"
        ).fetchone()
    parents = {name: parent for name, _, _, parent in rows}
    assert [name for name, *_ in rows] == ["trial_0000", "trial_0001", "trial_0002", "trial_0003"]
    assert [status for _, status, *_ in rows] == ["FINISHED", "KILLED", "FINISHED", "FINISHED"]
    assert parents["trial_0000"] == parents["trial_0001"] == "KILLED"
    assert parents["trial_0002"] == parents["trial_0003"] == "FINISHED"
    assert curves[0] >= 3 * 3


def test_train_takes_the_best_parameters_from_their_file(tuned: tuple[Path, str, str]) -> None:
    data, *_ = tuned
    best = json.loads((data / "08_reporting" / "tuning_scores.json").read_text())["best"]["parameters"]
    file = data / "06_models" / "tuned_parameters.yml"
    chosen = ("--pipelines", "train", "--config", str(file))
    output_of(kedro("run", *chosen, data=data))  # the file knows the environment
    card = json.loads((newest(data / "06_models" / "checkpoint") / "checkpoint" / "checkpoint.json").read_text())
    for name, value in best.items():
        group, field = name.split(".")
        assert card[group][field] == value, name


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("tune.space.train.learning_rte.low=1", "tune.space.train.learning_rte"),
        ("tune.space.model.d_model.choices=[8]", "at least 2 items"),
        ("tune.trials=0", "tune.trials: Input should be greater than or equal to 1"),
    ],
)
def test_a_bad_space_is_refused_before_anything_runs(parameter: str, message: str, tmp_path: Path) -> None:
    text = output_of(
        kedro("run", "--env", "test", "--pipelines", "tune", "--params", parameter, data=tmp_path), fails=True
    )
    assert message in text
    assert "Traceback" not in text

"""Walk-forward and ablations in the toy environment, as a user runs them."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pytest
from tests.kedro_command import kedro, newest, output_of

from nqcast.stopping import FOLD_FAILED


@pytest.fixture(scope="module")
def toy(toy_features: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data folder and the output of a whole toy walk-forward."""
    data = shutil.copytree(toy_features, tmp_path_factory.mktemp("toy") / "data")
    return data, output_of(kedro("run", "--env", "test", "--pipelines", "walk_forward", data=data))


def log_of(data: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (data / "08_reporting" / "walk_forward_log.jsonl").read_text().splitlines()]


def test_all_folds_join_into_one_scored_record(toy: tuple[Path, str]) -> None:
    data, output = toy
    assert "3 of 3 folds scored" in output
    scores = json.loads((data / "08_reporting" / "walk_forward_scores.json").read_text())
    assert {"constants", "log_har", "seasonal_har", "model", "model_conformal", "model_online"} <= set(scores["table"])
    assert scores["gains"]["log_har"]["15m"]["p_value"] is not None
    folder = newest(data / "07_model_output" / "walk_forward_predictions.parquet")
    frame = pd.read_parquet(next(folder.glob("*.parquet")))
    assert not frame.duplicated(["forecast", "ts", "horizon"]).any()
    assert set(frame["fold"]) == {"fold_01", "fold_02", "fold_03"}


@pytest.mark.slow
def test_the_record_of_all_folds_can_be_traded(toy: tuple[Path, str]) -> None:
    data, _ = toy
    chosen = ("--pipelines", "backtest_walk_forward", "--params", "backtest.forecast=model_online")
    output = output_of(kedro("run", "--env", "test", *chosen, data=data))
    assert "Backtest of model online" in output
    results = json.loads((data / "08_reporting" / "walk_forward_backtest.json").read_text())
    assert results["sessions"]["count"] == 15
    uses = [json.loads(line) for line in (data / "08_reporting" / "test_uses.jsonl").read_text().splitlines()]
    assert {use["kind"] for use in uses} == {"walk_forward"}, "the folds were scored, the trades score nothing anew"


def test_a_second_run_makes_only_the_fold_that_is_missing(toy: tuple[Path, str]) -> None:
    data, _ = toy
    report = data / "08_reporting" / "walk_forward_scores.json"
    first = json.loads(report.read_text())
    (gone,) = (data / "07_model_output" / "walk_forward").glob("fold_02_*")
    shutil.rmtree(gone)
    output = output_of(kedro("run", "--env", "test", "--pipelines", "walk_forward", data=data))
    assert output.count("is finished already") == 2
    assert [entry["status"] for entry in log_of(data)[-3:]] == ["skipped", "finished", "skipped"]
    assert json.loads(report.read_text())["table"] == first["table"]


def test_a_failing_fold_ends_in_the_report_and_not_in_the_way(toy: tuple[Path, str]) -> None:
    data, _ = toy
    # a file where a run directory belongs: that fold alone cannot train
    plan = log_of(data)[-2]
    blocked = data / "06_models" / "walk_forward" / str(plan["partition"])
    shutil.rmtree(blocked)
    shutil.rmtree(data / "07_model_output" / "walk_forward" / str(plan["partition"]))
    blocked.write_text("in the way")
    done = kedro("run", "--env", "test", "--pipelines", "walk_forward", data=data)
    output = output_of(done, fails=True)
    assert done.returncode == FOLD_FAILED
    assert "2 of 3 folds scored" in output
    assert "FAILED fold_02" in output
    assert [entry["status"] for entry in log_of(data)[-3:]] == ["skipped", "failed", "skipped"]
    blocked.unlink()


@pytest.mark.slow
def test_the_recipe_that_loses_less_over_the_folds_becomes_the_champion(toy: tuple[Path, str]) -> None:
    """Validation is not asked: what was registered first leads until both recipes have walked the same folds."""
    data, _ = toy
    good = "tracking.promote=walk_forward"
    bad = f"{good},train.learning_rate=3.0,train.warmup_steps=0"

    def aliases_after(pipeline: str, parameters: str) -> dict[str, int]:
        output_of(kedro("run", "--env", "test", "--pipelines", pipeline, "--params", parameters, data=data))
        with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
            query = "select alias, version from registered_model_aliases where name = 'nqcast_test'"
            return dict(store.execute(query).fetchall())

    assert aliases_after("train", bad) == {"champion": 1}
    assert aliases_after("train", good) == {"champion": 1, "challenger": 2}
    assert aliases_after("walk_forward", bad) == {"champion": 1, "challenger": 2}
    assert aliases_after("walk_forward", good) == {"champion": 2}
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        query = "select value from registered_model_tags where key like 'nqcast.walk_forward.%'"
        records = [json.loads(value) for (value,) in store.execute(query)]
    assert len(records) == 2 and len({record["anchors"] for record in records}) == 1
    uses = [json.loads(line) for line in (data / "08_reporting" / "test_uses.jsonl").read_text().splitlines()]
    assert {use["kind"] for use in uses} == {"walk_forward"}, "the folds were scored, the trades score nothing anew"


@pytest.mark.slow
def test_ablations_end_in_a_table_with_an_interval_for_every_variant(toy: tuple[Path, str]) -> None:
    data, _ = toy
    three_sessions = ("--params", "split.validation=0.1,split.test=0.2")
    output = output_of(kedro("run", "--env", "test", "--pipelines", "ablation", *three_sessions, data=data))
    table = json.loads((data / "08_reporting" / "ablation_scores.json").read_text())["table"]
    assert {"base", "no_variable_attention", "no_gate", "no_window_statistics", "no_scale", "scale_only_head"} <= set(
        table
    )
    assert table["base"]["mean"]["gain"] == 0
    assert table["no_scale"]["15m"]["high"] < 0
    for name, row in table.items():
        assert row["mean"]["low"] <= row["mean"]["gain"] <= row["mean"]["high"], name
        assert name.replace("_", " ") in output
    uses = [json.loads(line) for line in (data / "08_reporting" / "test_uses.jsonl").read_text().splitlines()]
    assert {use["kind"] for use in uses} == {"walk_forward"}, "the folds were scored, the trades score nothing anew"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_verdict_is_held_to_what_was_registered_and_answered_once(toy_features, tmp_path):
    toy = ("run", "--env", "test", "--pipelines")
    shutil.copytree(toy_features, tmp_path, dirs_exist_ok=True)
    output_of(kedro(*toy, "register", data=tmp_path))
    other = output_of(kedro(*toy, "verdict", "--params", "train.learning_rate=0.002", data=tmp_path), fails=True)
    assert "found another settings.train.learning_rate" in " ".join(other.split())
    output_of(kedro(*toy, "verdict", data=tmp_path))
    scores = json.loads((tmp_path / "08_reporting" / "verdict_scores.json").read_text())
    assert scores["text"].startswith(scores["registration"]["question"]) and "seasonal_har" in scores["gains"]
    lines = [json.loads(line) for line in (tmp_path / "08_reporting" / "test_uses.jsonl").read_text().splitlines()]
    assert [(line["kind"], line["sessions"]) for line in lines] == [("verdict", 10)]
    assert [lines[0]["first_session"], lines[0]["last_session"]] == scores["registration"]["sessions"]
    again = output_of(kedro(*toy, "verdict", data=tmp_path), fails=True)
    assert "asked once" in " ".join(again.split())

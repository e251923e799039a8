"""The toy environment end to end, as a user runs it: real commands, real files, one temporary data folder."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import sqlite3
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml
from tests.kedro_command import PROJECT, kedro, newest, output_of

from nqcast.constants import FEATURES
from nqcast.horizons import DEFAULT

pytestmark = pytest.mark.slow  # `make check` stays below three minutes without the whole road


@pytest.fixture(scope="module")
def toy(toy_run: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The data folder, to be changed, and the console output of one whole toy run."""
    return shutil.copytree(toy_run[0], tmp_path_factory.mktemp("toy") / "data with spaces"), toy_run[1]


def test_every_column_of_every_table_is_explained(toy: tuple[Path, str]) -> None:
    page = (PROJECT / "docs" / "columns.md").read_text()
    tables = {path.name: set(pq.read_schema(path).names) for path in toy[0].rglob("*.parquet") if path.is_file()}
    assert {"bars.parquet", "features.parquet", "quarantine.parquet", "predictions.parquet"} <= tables.keys()
    explained = set(re.findall(r"`(\w+)`", page)) | {f"target_{name}" for name in DEFAULT}
    assert [name for names in tables.values() for name in names - explained if not re.match(r"q\d\d", name)] == []
    assert [name for name in FEATURES if f"`{name}`" not in page[page.index("| feature |") :]] == []


def test_the_whole_road_ends_in_scores_for_every_forecaster(toy: tuple[Path, str]) -> None:
    data, _ = toy
    table = json.loads((data / "08_reporting" / "scores.json").read_text())["table"]
    rows = {"constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har"}
    assert set(table) == {*rows, "model", "model_conformal", "model_online"}
    for scores in table.values():
        assert set(scores) == {"15m", "30m", "60m", "2h", "4h", "mean"}
    skills = [table[name]["mean"]["skill_constants"] for name in ("constants", "seasonal_har")]
    assert skills[0] == 0.0 < skills[1]


def test_the_run_ends_with_a_table_and_the_path_of_every_artifact(toy: tuple[Path, str]) -> None:
    data, output = toy
    assert "skill" in output
    for name in ("features", "checkpoint", "calibration", "predictions", "scores", "fan_chart", "validation_metrics"):
        assert name in output
    assert (data / "08_reporting" / "fan_chart.png").read_bytes().startswith(b"\x89PNG")


def test_predictions_hold_one_row_per_anchor_and_horizon_in_order(toy: tuple[Path, str]) -> None:
    data, _ = toy
    folder = newest(data / "07_model_output" / "predictions.parquet")
    predictions = pd.read_parquet(next(folder.glob("*.parquet")))
    levels = ["q05", "q10", "q25", "q50", "q75", "q90", "q95"]
    assert {"ts", "session", "horizon", "target", "scale", *levels} <= set(predictions.columns)
    assert not predictions.duplicated(["ts", "horizon"]).any()
    assert (predictions[levels].diff(axis=1).iloc[:, 1:] >= 0).all().all()


def test_a_file_with_the_models_own_forecasts_is_scored_as_the_model_is(toy: tuple[Path, str], tmp_path: Path) -> None:
    data, _ = toy
    expected = json.loads((data / "08_reporting" / "scores.json").read_text())
    predictions = pd.read_parquet(next(newest(data / "07_model_output" / "predictions.parquet").glob("*.parquet")))
    file = tmp_path / "mine.csv"
    predictions.drop(columns=["target", "session", "scale"]).to_csv(file, index=False)
    chosen = ("run", "--env", "test", "--pipelines", "score_file", "--params")
    output = output_of(kedro(*chosen, f"predictions={file}", data=data))
    found = json.loads((data / "08_reporting" / "file_scores.json").read_text())
    for name in ("constants", "seasonal_har", "model"):
        for figure in ("mean_pinball", "skill_constants", "picp_80"):
            assert found["table"][name]["mean"][figure] == pytest.approx(
                expected["table"][name]["mean"][figure], rel=1e-9
            )
    assert found["gains"]["seasonal_har"]["15m"]["gain"] == pytest.approx(
        expected["gains"]["seasonal_har"]["15m"]["gain"]
    )
    assert "test anchors (100%)" in output
    uses = [json.loads(line) for line in (data / "08_reporting" / "test_uses.jsonl").read_text().splitlines()]
    assert uses[-1]["checkpoint"].startswith("file ") and len(uses) == expected["test_uses"] + 1
    elsewhere = ("run", "--env", "test", "--pipelines", "evaluate", "--params", f"predictions={file}")
    assert "read by `--pipelines score_file`" in output_of(kedro(*elsewhere, data=data), fails=True)
    refused = output_of(kedro(*chosen, "predictions=nowhere.csv", data=data), fails=True)
    assert "expected a parquet or CSV file of forecasts, found nothing at" in refused


def test_every_written_entry_of_the_catalog_is_there(toy: tuple[Path, str]) -> None:
    data, _ = toy
    for layer in ("raw", "ingest", "features", "train", "evaluate"):
        path = PROJECT / "conf" / "base" / f"catalog_{layer}.yml"
        text = path.read_text().replace("${globals:data}", str(data))
        for name, entry in yaml.safe_load(text).items():
            if "filepath" in entry:
                assert Path(entry["filepath"]).exists(), name


def test_the_checkpoint_is_registered_as_a_model_with_its_calibration(toy: tuple[Path, str]) -> None:
    data, _ = toy
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        query = "select alias, version from registered_model_aliases where name = 'nqcast_test'"
        assert store.execute(query).fetchall() == [("champion", 1)]
    models = list((data / "09_tracking" / "artifacts").rglob("MLmodel"))
    inside = {path.name for path in models[0].parent.rglob("*") if path.is_file()}
    assert {"model.safetensors", "checkpoint.json", "calibration.json", "served_model.py"} <= inside


def test_mlflow_has_headlines_and_curves_to_compare_runs_by_and_the_data_set(toy: tuple[Path, str]) -> None:
    data, _ = toy
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        names = {name for (name,) in store.execute("select key from latest_metrics")}
        rows = dict(store.execute("select name, json_extract(dataset_profile, '$.rows') from datasets"))
    horizons = {"_15m", "_30m", "_60m", "_2h", "_4h", ""}
    assert {
        f"{name}{horizon}" for name in ("test_skill", "test_gain", "skill_constants") for horizon in horizons
    } <= names
    assert {
        "test_gain_low",
        "test_picp_80",
        "test_picp_80_online",
        "test_uses",
        "validation_skill",
        "val_loss",
    } <= names
    assert len(names) <= 60
    assert rows.keys() == {"raw_bars", "features"} and min(rows.values()) > 10_000


def test_every_scoring_of_the_test_split_is_counted(toy: tuple[Path, str]) -> None:
    data, _ = toy
    log = data / "08_reporting" / "test_uses.jsonl"
    before = len(log.read_text().splitlines())
    output_of(kedro("run", "--env", "test", "--pipelines", "evaluate", "--to-nodes", "score", data=data))
    assert len(log.read_text().splitlines()) == before + 1


def test_the_report_says_what_the_network_uses(toy: tuple[Path, str]) -> None:
    data, _ = toy
    assert "What does the network use" in (data / "08_reporting" / "report.html").read_text()
    explanation = json.loads((data / "08_reporting" / "explanation.json").read_text())
    splits = pd.read_parquet(next(newest(data / "05_model_input" / "splits.parquet").glob("*.parquet")))
    validation = splits.loc[splits["split"] == "validation", "ts"]
    assert explanation["anchors"]["first"] == str(validation.iloc[0])
    assert explanation["anchors"]["last"] == str(validation.iloc[-1])


def test_a_backtest_trades_the_test_split_and_counts_as_a_use_of_it(toy: tuple[Path, str]) -> None:
    data, _ = toy
    log = data / "08_reporting" / "test_uses.jsonl"
    before = len(log.read_text().splitlines())
    chosen = ("--pipelines", "backtest", "--params", "backtest.positions=netted")
    output = output_of(kedro("run", "--env", "test", *chosen, data=data))
    assert "positions netted, filled at the next bar's open" in output
    results = json.loads((data / "08_reporting" / "backtest.json").read_text())
    assert set(results["books"]) == {"15m", "30m", "60m", "2h", "4h", "all"}
    trades = pd.read_parquet(next(newest(data / "07_model_output" / "backtest_trades.parquet").glob("*.parquet")))
    assert (trades["entry_bar"] > trades["anchor"]).all()
    records = log.read_text().splitlines()
    assert len(records) == before + 1
    assert json.loads(records[-1])["backtest"]["positions"] == "netted"
    assert (data / "08_reporting" / "backtest.png").read_bytes().startswith(b"\x89PNG")


def test_same_seed_same_metrics_and_train_needs_features_alone(toy: tuple[Path, str]) -> None:
    data, _ = toy
    report = data / "08_reporting" / "validation_metrics.json"
    first = json.loads(report.read_text())
    report.unlink()
    chosen = ("--pipelines", "train", "--runner", "ThreadRunner", "--params", "train.resume=never")
    output_of(kedro("run", "--env", "test", *chosen, data=data))
    assert json.loads(report.read_text()) == first
    with contextlib.closing(sqlite3.connect(data / "09_tracking" / "mlflow.db")) as store:
        assert store.execute("select count(*) from model_versions").fetchone() == (1,)  # the same weights again
        curves = "select count(*) from metrics where key = 'val_loss' group by run_uuid"
        assert {count for (count,) in store.execute(curves)} == {
            len(json.loads(report.with_name("history.json").read_text()))
        }


def test_earlier_features_can_be_asked_for(toy: tuple[Path, str]) -> None:
    data, _ = toy
    version = newest(data / "04_feature" / "features.parquet").name
    output_of(kedro("run", "--env", "test", "--pipelines", "features", "--params", "rebuild=true", data=data))
    assert newest(data / "04_feature" / "features.parquet").name != version
    chosen = ("--pipelines", "train", "--to-nodes", "split_dataset", "--load-versions", f"features:{version}")
    output_of(kedro("run", "--env", "test", *chosen, data=data))
    output_of(kedro("run", "--env", "test", *chosen[:-1], "features:2020-01-01T00.00.00.000Z", data=data), fails=True)


def test_a_run_can_start_in_the_middle(toy: tuple[Path, str]) -> None:
    data, _ = toy
    output = output_of(kedro("run", "--env", "test", "--pipelines", "evaluate", "--from-nodes", "score", data=data))
    assert "predict_test" not in output


def test_the_calibration_is_of_the_checkpoint_beside_it_and_of_no_other(
    toy_run: tuple[Path, str], tmp_path: Path
) -> None:
    data = Path(shutil.copytree(toy_run[0], tmp_path / "data"))
    folder = newest(data / "06_models" / "calibration.json")
    calibration = json.loads((folder / "calibration.json").read_text())
    card = json.loads((newest(data / "06_models" / "checkpoint") / "checkpoint" / "checkpoint.json").read_text())
    assert calibration["checkpoint"] == card["fingerprint"]
    chosen = ("--params", "train.seed=5,train.epochs=1", "--pipelines", "train")
    output_of(kedro("run", "--env", "test", *chosen, data=data))
    pair = ("--pipelines", "evaluate", "--load-versions", f"calibration:{folder.name}")
    text = output_of(kedro("run", "--env", "test", *pair, data=data), fails=True)
    assert "take the one that was saved with the checkpoint" in text


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("train.learning_rte=0.1", "train.learning_rte: there is no such parameter; did you mean train.learning_rate?"),
        ("trian.seed=1", "trian: there is no such parameter; did you mean train?"),
        ("model.size=huge", "model.size"),
        ("train.learning_rate=fast", "train.learning_rate: Input should be a valid number"),
        ("split.train=7", "split.train: Input should be less than 1, found 7"),
        ("scale.kind=magic", "scale.kind"),
    ],
)
def test_a_bad_parameter_is_named_with_its_cure_before_anything_runs(
    parameter: str, message: str, tmp_path: Path
) -> None:
    text = output_of(kedro("run", "--env", "test", "--params", parameter, data=tmp_path), fails=True)
    assert message in text
    assert "Traceback" not in text
    assert not list(tmp_path.rglob("*.parquet"))


def test_announcements_of_the_command_line_reach_the_network_and_its_forecasts(
    toy: tuple[Path, str], tmp_path: Path
) -> None:
    """Two kinds at five horizons are ten more predictors than the toy run's checkpoint has."""
    data = Path(shutil.copytree(toy[0], tmp_path / "told"))
    told = "scale.announcements=fomc+employment,train.epochs=1"
    output_of(kedro("run", "--env", "test", "--pipelines", "train", "--params", told, data=data))
    output_of(kedro("run", "--env", "test", "--pipelines", "forecast", data=data))
    cards = [json.loads(next(newest(root / "06_models" / "checkpoint").rglob("checkpoint.json")).read_text())
             for root in (toy[0], data)]  # fmt: skip
    assert cards[1]["model"]["n_volatility"] == cards[0]["model"]["n_volatility"] + 10
    assert cards[1]["scale"]["config"]["announcements"] == ["fomc", "employment"]
    calibration = next(newest(data / "06_models" / "calibration.json").glob("calibration.json"))
    assert json.loads(calibration.read_text())["checkpoint"] == cards[1]["fingerprint"]
    assert json.loads((data / "08_reporting" / "forecast.json").read_text())["calibrated"]  # another's would be refused

"""`kedro run --pipelines forecast` as a user types it, on a checkpoint that is there."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from kedro.io import Version
from tests.forecast.conftest import random_checkpoint
from tests.kedro_command import PROJECT, kedro, newest, output_of

from nqcast.constants import HORIZONS, LEVELS
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.datasets.verified import CheckpointDataset, VerifiedDataset
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds nothing but a checkpoint and its calibration."""
    folder = tmp_path_factory.mktemp("forecast")
    features = build_features(build_bars(simulate(SimulationConfig(sessions=60, seed=7)), IngestConfig()).bars)
    models, version = folder / "06_models", Version(None, "2026-01-01T00.00.00.000Z")
    checkpoint = random_checkpoint(features, ScaleConfig())
    CheckpointDataset(filepath=str(models / "checkpoint"), version=version).save(checkpoint)
    save_calibration(models, checkpoint.weights_sha256)
    return folder


def save_calibration(models: Path, weights: str, stamp: str = "000") -> None:
    state = ConformalCalibration(LEVELS, tuple(HORIZONS), weights).state()
    entry = yaml.safe_load((PROJECT / "conf" / "base" / "catalog_train.yml").read_text())["calibration"]
    version = Version(None, f"2026-01-01T00.00.00.{stamp}Z") if entry.get("versioned") else None
    VerifiedDataset(filepath=str(models / "calibration.json"), dataset="json.JSONDataset", version=version).save(state)


def run(data: Path, *parameters: str, fails: bool = False) -> str:
    chosen = ("--params", ",".join(parameters)) if parameters else ()
    return output_of(kedro("run", "--env", "test", "--pipelines", "forecast", *chosen, data=data), fails)


@pytest.mark.slow
def test_the_pipeline_writes_table_picture_and_page_and_prints_the_forecast(data: Path) -> None:
    output = run(data)
    assert "forecast issued 2016-03-28 17:00 UTC" in output
    frame = pd.read_parquet(newest(data / "07_model_output" / "forecast.parquet") / "forecast.parquet")
    assert len(frame) == 35 and frame["price_quantile"].notna().all()
    assert {"issue_time", "target_time", "horizon", "level", "return_quantile", "price_quantile"} <= set(frame)
    assert (data / "08_reporting" / "forecast.png").read_bytes().startswith(b"\x89PNG")
    assert "Plotly.newPlot" in (data / "08_reporting" / "forecast.html").read_text()
    assert "Calibrated on the validation split" in output
    summary: dict[str, Any] = json.loads((data / "08_reporting" / "forecast.json").read_text())
    assert summary["issue_time"] == frame["issue_time"].iloc[0].isoformat()


@pytest.mark.slow
def test_a_sweep_writes_every_anchor_of_the_file(data: Path) -> None:
    output = output_of(kedro("run", "--env", "test", "--pipelines", "sweep", data=data))
    frame = pd.read_parquet(newest(data / "07_model_output" / "sweep.parquet") / "sweep.parquet")
    assert len(frame) == 5 * frame["ts"].nunique() > 50_000
    assert frame["q05"].notna().all() and frame["ts"].is_monotonic_increasing
    first, last = (f"{frame['ts'].iloc[row] + pd.Timedelta('5min'):%Y-%m-%d %H:%M}" for row in (0, -1))
    said = f"{frame['ts'].nunique():,} forecasts of 5 horizons, issued {first} to {last} UTC."
    assert said in output and "07_model_output: sweep" in output


@pytest.mark.slow
def test_a_refusal_ends_the_run_with_its_reason(data: Path) -> None:
    output = run(data, "forecast.max_age_minutes=10", fails=True)
    assert "expected bars that end at most 10 minutes ago" in output
    assert "Traceback" not in output
    later = run(data, "forecast.as_of=2016-03-23T15:00:00Z")
    assert "forecast issued 2016-03-23 15:00 UTC" in later


@pytest.mark.slow
def test_a_calibration_of_another_checkpoint_ends_the_run(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path, dirs_exist_ok=True)
    save_calibration(tmp_path / "06_models", "zzz", "001")
    text = run(tmp_path, fails=True)
    assert "expected a conformal calibration fitted for the weights" in text
    assert "take the one that was saved with the checkpoint" in text

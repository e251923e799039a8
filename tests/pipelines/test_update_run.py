"""`kedro run --pipelines update` as a user types it: a week of bars more, and then the same week again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.kedro_command import kedro, newest, output_of

from nqcast.forecast.loading import checkpoint_in
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.checkpoint import Checkpoint

SMALL = "model.size=test,train.epochs=1,train.windows_per_epoch=256,train.members=2"
SPLIT = "split.train=0.7,split.validation=0.28,split.test=0.02"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two networks that were trained without the last five sessions, and the newest weeks' file."""
    folder, market = tmp_path_factory.mktemp("update"), simulate(SimulationConfig(sessions=60, seed=7))
    day = market["ts"].dt.normalize()
    market[day < day.unique()[-6]].to_parquet(folder / "first.parquet")
    market[day >= day.unique()[-24]].to_parquet(folder / "newest.parquet")
    parameters = f"bars={folder / 'first.parquet'},{SMALL},{SPLIT}"
    output_of(kedro("run", "--env", "nq", "--pipelines", "ingest,features,train", "--params", parameters, data=folder))
    return folder


def updated(trained: Path, *more: str) -> tuple[str, Json, Checkpoint]:
    chosen = ("update.validation_sessions=8", "update.train.windows_per_epoch=256", *more)
    parameters = ",".join([f"bars={trained / 'newest.parquet'}", *chosen])
    done = kedro("run", "--env", "nq", "--pipelines", "update", "--params", parameters, data=trained)
    report = json.loads((trained / "nq" / "08_reporting" / "update.json").read_text())
    return output_of(done), report, checkpoint_in(trained / "nq" / "06_models" / "checkpoint")


Json = dict[str, Any]


def made(trained: Path) -> list[Path]:
    """Every version of checkpoint and calibration; a model is registered where a calibration is written."""
    models = trained / "nq" / "06_models"
    return sorted(path for name in ("checkpoint", "calibration.json") for path in (models / name).iterdir())


@pytest.mark.slow
def test_new_bars_are_taken_once_and_the_better_version_stays(trained: Path) -> None:
    before = checkpoint_in(trained / "nq" / "06_models" / "checkpoint")
    output, report, after = updated(trained)
    losses = {name: np.mean(list(report["losses"][name].values())) for name in ("before", "new")}
    replaced = losses["new"] < losses["before"]
    assert report["status"] == ("replaced" if replaced else "kept")
    assert (after.weights_sha256 != before.weights_sha256) == replaced
    assert after.members == 2
    bars = pd.read_parquet(trained / "nq" / "02_intermediate" / "bars.parquet")
    assert after.trailing["ts"][-1] == bars["ts"].iloc[-1].value > before.trailing["ts"][-1]
    calibration = json.loads(
        (newest(trained / "nq" / "06_models" / "calibration.json") / "calibration.json").read_text()
    )
    assert calibration["weights"] == after.weights_sha256
    assert pd.Timestamp(calibration["anchors"]["last"]) > bars["ts"].iloc[-1] - pd.Timedelta(days=1)
    assert "the new version gains" in " ".join(output.split())

    assert calibration["text"].splitlines()[0] in output
    everything = made(trained)
    assert len(everything) == 4
    output, report, again = updated(trained)
    assert report["status"] == "nothing new" and output.count("No bar after") == 1
    assert made(trained) == everything, "no further version is written"
    assert calibration["text"].splitlines()[0] not in output, "no table of what the version before holds"
    assert again.weights_sha256 == after.weights_sha256 and again.metadata == after.metadata
    assert all((again.trailing[name] == array).all() for name, array in after.trailing.items() if name == "ts")
    assert pd.read_parquet(trained / "nq" / "02_intermediate" / "bars.parquet").equals(bars)
    forecast = f"bars={trained / 'newest.parquet'},forecast.min_bars=3000"
    output_of(kedro("run", "--env", "nq", "--pipelines", "forecast", "--params", forecast, data=trained))

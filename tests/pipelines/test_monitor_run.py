"""`kedro run --pipelines monitor` as typed: on more bars of the same market, and on a market three times as loud."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.kedro_command import kedro, newest, output_of

from nqcast.hooks.terminal import AlarmHook
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.stopping import RunAlarmed

SESSIONS = 90


@pytest.fixture(scope="module")
def market() -> pd.DataFrame:
    return simulate(SimulationConfig(sessions=SESSIONS, seed=7))


@pytest.fixture(scope="module")
def trained(market: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a checkpoint that was trained on the first two thirds of the bars."""
    folder = tmp_path_factory.mktemp("monitor")
    first = market["ts"] < market["ts"].iloc[int(0.67 * len(market))]
    market[first].to_parquet(folder / "first.parquet")
    small = "model.size=test,train.epochs=1,train.windows_per_epoch=256,train.accumulation=1"
    split = "split.train=0.7,split.validation=0.28,split.test=0.02"
    parameters = f"bars={folder / 'first.parquet'},{small},{split},scale.rolling_quantiles=false"
    output_of(kedro("run", "--env", "nq", "--pipelines", "ingest,features,train", "--params", parameters, data=folder))
    return folder


def monitored(trained: Path, bars: pd.DataFrame, name: str) -> tuple[int, str]:
    bars.to_parquet(trained / name)
    parameters = f"bars={trained / name},monitor.sessions=8,monitor.mean_block=2,monitor.draws=400"
    done = kedro("run", "--env", "nq", "--pipelines", "monitor", "--params", parameters, data=trained)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


def contents(folder: Path) -> dict[str, str]:
    """Hashes of everything that training or evaluation reads."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "09_tracking" not in path.parts and "monitor" not in str(path.relative_to(folder))
    }


@pytest.mark.slow
def test_bars_of_the_same_law_pass_and_nothing_that_training_left_is_touched(
    trained: Path, market: pd.DataFrame
) -> None:
    data = trained / "nq"
    before = contents(data)
    status, output = monitored(trained, market, "longer.parquet")
    assert status == 0, output[-3000:]
    assert "No limit is crossed." in output
    assert contents(data) == before
    report = json.loads((data / "08_reporting" / "monitor.json").read_text())
    assert report["crossed"] == [] and report["exit_status"] == 0
    assert report["sessions"]["count"] == 8
    checks = pd.read_parquet(newest(data / "07_model_output" / "monitor_checks.parquet") / "monitor_checks.parquet")
    assert checks.groupby("family").size().to_dict() == {"coverage": 35, "feature drift": 24, "skill": 10}
    assert (data / "08_reporting" / "monitor.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_market_six_times_as_loud_ends_with_status_3_after_everything_is_written(
    trained: Path, market: pd.DataFrame
) -> None:
    late = market["ts"] >= market["ts"].iloc[int(0.7 * len(market))]
    loud = market.copy()
    prices = ["open", "high", "low", "close"]
    middle = market.loc[late, "close"].iloc[0]
    moved = middle * np.exp(6.0 * np.log(market.loc[late, prices] / middle))
    loud.loc[late, prices] = (moved / 0.25).round() * 0.25
    status, output = monitored(trained, loud, "loud.parquet")
    assert status == 3, output[-3000:]
    assert "what this run wrote" in output and "Traceback" not in output
    report = json.loads((trained / "nq" / "08_reporting" / "monitor.json").read_text())
    assert report["exit_status"] == 3
    assert any(name.startswith("feature drift rv_") for name in report["crossed"]), report["crossed"]
    assert "limits are crossed" in output


@pytest.mark.slow
def test_bars_that_hold_nothing_new_are_refused(trained: Path, market: pd.DataFrame) -> None:
    early = market["ts"] < market["ts"].iloc[int(0.6 * len(market))]
    status, output = monitored(trained, market[early], "early.parquet")
    assert status == 1
    assert "expected at least 2 sessions with anchors after" in output


def test_a_saved_status_ends_the_run_with_it_and_is_forgotten_by_the_next() -> None:
    hook = AlarmHook()
    hook.before_pipeline_run()
    for data in ({"exit_status": 0}, {"exit_status": 3}, {"exit_status": 1}, [3], "3"):
        hook.after_dataset_saved(data)
    with pytest.raises(RunAlarmed) as raised:
        hook.after_pipeline_run()
    assert raised.value.code == 3
    hook.before_pipeline_run()
    hook.after_pipeline_run()

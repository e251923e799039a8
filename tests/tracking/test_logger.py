"""MLflow as a Trainer's logger, and the same metrics for TensorBoard: real files, read back by their own readers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import TinyLoader, TinyModel

from nqcast.tracking.logger import MlflowLogger, follow
from nqcast.tracking.spool import Spool
from nqcast.tracking.tail import MetricsTail, TensorBoardRuns
from nqcast.training import TrainConfig, Trainer

pytestmark = [
    pytest.mark.slow,
    # MLflow's own models of its SQLite store
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy is deprecated:DeprecationWarning"),
]


def test_a_trainers_epochs_arrive_in_a_sqlite_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    sizes = {"epochs": 2, "batch_size": 16, "warmup_steps": 2, "t_0": 2}
    config = TrainConfig(**sizes, horizons=("15m", "30m"), device="cpu")
    with MlflowLogger(tmp_path, "script", {"train": {"lr": 1e-3}, "api_key": "hunter2"}) as logger:
        loaders = TinyLoader(64, 16, 0), TinyLoader(32, 16, None)
        history = Trainer(TinyModel(), config, *loaders, tmp_path / "run", "cpu", logger).train()
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    [run] = client.search_runs([client.get_experiment_by_name("nqcast").experiment_id])
    assert (run.info.run_name, run.info.status) == ("script", "FINISHED")
    assert run.data.params == {"train.lr": "0.001", "api_key": "[redacted]"}
    found = [(metric.step, metric.value) for metric in client.get_metric_history(run.info.run_id, "val_loss")]
    assert found == [(record["step"], record["val_loss"]) for record in history]


def test_a_store_that_never_answers_costs_less_than_five_seconds_and_loses_nothing(
    black_hole: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", black_hole)
    begun = time.monotonic()
    with pytest.raises(RuntimeError), MlflowLogger(tmp_path, "script") as logger:
        for step in range(500):
            logger.log({"loss": 1.0, "bad": float("nan")}, step=step)
        raise RuntimeError
    assert time.monotonic() - begun < 5
    [spool] = (tmp_path / "spool").iterdir()
    lines = [json.loads(line) for line in (spool / "news.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "metrics" for line in lines) == 500
    assert lines[-1] == {"kind": "end", "status": "FAILED", "time": lines[-1]["time"]}


def test_a_run_is_followed_for_tensorboard_beside_mlflow(
    tmp_path: Path, tracked_run: Callable[..., Path], black_hole: str
) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def train(root: Path) -> dict[str, Any]:
        (root / "fp").mkdir()
        follow(root / "fp")
        lines = [json.dumps({"step": step, "time": 100.0 + step, "val_loss": 1 / (1 + step)}) for step in range(3)]
        (root / "fp" / "metrics.jsonl").write_text("\n".join(lines) + "\n")
        return {}

    folder = tracked_run(black_hole, train, {"tracking": {"tensorboard": True, "final_wait": 0.1}})
    events = EventAccumulator(str(folder / "tensorboard" / "fp"))
    events.Reload()
    found = [(event.step, event.wall_time, event.value) for event in events.Scalars("val_loss")]
    assert found == [(step, 100.0 + step, pytest.approx(1 / (1 + step))) for step in range(3)]


def test_trouble_with_tensorboards_files_is_told_once_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    root = tmp_path / "runs"
    (root / "fp").mkdir(parents=True)
    spool = Spool.create(tmp_path / "spool", "run")
    tail = MetricsTail(spool, boards=TensorBoardRuns(tmp_path / "tensorboard"))
    tail.follow(root / "fp")
    (root / "fp" / "metrics.jsonl").write_text('{"step": 0, "loss": 1.0}\n{"step": 1, "loss": 0.5}\n')
    tail.look()
    tail.close()
    assert [line["step"] for line, _ in spool.read(0) if line["kind"] == "metrics"] == [0, 1]
    assert caplog.text.count("TensorBoard's files cannot be written") == 1

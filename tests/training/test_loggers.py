"""Real TensorBoard and Weights & Biases: what a Trainer logs is what their own readers find."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.training.conftest import TinyLoader, TinyModel

from nqcast.training import TrainConfig, Trainer, create_trainer
from nqcast.training.loggers import Loggers, MissingLoggerError, TensorBoardLogger, needed

MakeTrainer = Callable[..., Trainer]


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every scalar below `folder`, read by TensorBoard itself."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.slow
def test_tensorboard_reads_back_every_epoch_of_a_training(make_trainer: MakeTrainer, tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path / "tb é") as logger:
        history = make_trainer(logger=logger, epochs=3).train()
    found = scalars(tmp_path / "tb é")
    for name in ("val_loss", "picp_80", "epoch"):
        assert [step for step, _ in found[name]] == [record["step"] for record in history]
        assert [value for _, value in found[name]] == pytest.approx([record[name] for record in history], rel=1e-6)
    assert [step for step, _ in found["train_loss"]] == [record["step"] for record in history[1:]]
    assert "step" not in found


@pytest.mark.slow
def test_text_none_and_truth_values_are_no_scalars(tmp_path: Path) -> None:
    with TensorBoardLogger(tmp_path) as logger:
        logger.log({"a": 1.5, "note": "x", "none": None, "flag": True, "step": 7}, step=7, seconds=12.0)
    assert scalars(tmp_path) == {"a": [(7, 1.5)]}


def test_several_loggers_are_told_the_same() -> None:
    class Recorder:
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def log(self, values: Any, step: int) -> None:
            self.calls.append((values, step))

    first, second = Recorder(), Recorder()
    Loggers([first, second]).log({"a": 1.0}, step=3)
    assert first.calls == second.calls == [({"a": 1.0}, 3)]


def test_a_folder_called_wandb_is_not_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wandb_here").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingLoggerError, match=r"wandb_here.*pip install 'nqcast\[loggers\]'.*use_wandb off"):
        needed("wandb_here", "wandb_here", "use_wandb")


def test_tensorboard_that_is_missing_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingLoggerError, match="expected tensorboard to be installed"):
        TensorBoardLogger(tmp_path)


TRAIN_WITH_WANDB = """
import sys, json, torch
sys.path.insert(0, sys.argv[2])
from tests.training.conftest import TinyLoader, TinyModel
from nqcast.training import TrainConfig, create_trainer
torch.set_num_threads(1)
module = type("Module", (), {"train_loader": TinyLoader(96, 16, 0), "val_loader": TinyLoader(32, 16, None)})()
sizes = {"epochs": 2, "batch_size": 16, "accumulation": 2, "warmup_steps": 2, "t_0": 2}
config = TrainConfig(**sizes, horizons=("15m", "30m"), device="cpu")
trainer = create_trainer(TinyModel(), config, module, sys.argv[1], use_wandb=True)
history = trainer.train()
import wandb
folder = wandb.run.dir
wandb.finish()
print(json.dumps({"history": history, "folder": folder}))
"""


@pytest.mark.slow
def test_use_wandb_writes_an_offline_run_with_configuration_and_every_epoch(tmp_path: Path, project_root: Path) -> None:
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "WANDB_SILENT": "true"}
    environment |= {"WANDB_CACHE_DIR": str(tmp_path / "cache"), "WANDB_CONFIG_DIR": str(tmp_path / "config")}
    environment |= {"WANDB_DATA_DIR": str(tmp_path / "staging"), "WANDB_ERROR_REPORTING": "false"}
    command = [sys.executable, "-W", "ignore", "-c", TRAIN_WITH_WANDB, str(tmp_path / "run"), str(project_root)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.strip().splitlines()[-1])
    [file] = Path(told["folder"]).parent.glob("*.wandb")
    records = list(wandb_records(file))
    config = {u.key: json.loads(u.value_json) for r in records if r.HasField("run") for u in r.run.config.update}
    assert (config["epochs"], config["learning_rate"]) == (2, 1e-4)
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
        for r in records
        if r.HasField("history")
    ]
    assert [row["_step"] for row in rows] == [record["step"] for record in told["history"]]
    assert [row["val_loss"] for row in rows] == [record["val_loss"] for record in told["history"]]


def wandb_records(path: Path) -> Any:
    """The records of a .wandb file: blocks of 32 KiB of (crc 4, length 2, kind 1, payload), as in LevelDB's log."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, parts = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:  # the rest of a block is padding
            at += 32768 - at % 32768
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        parts += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = Record()
            record.ParseFromString(parts)
            yield record
            parts = b""


def test_use_wandb_without_wandb_says_how_to_get_it(
    tmp_path: Path, config: TrainConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    module = type("Module", (), {"train_loader": TinyLoader(32, 16, 0), "val_loader": TinyLoader(32, 16, None)})()
    with pytest.raises(ValueError, match=r"expected wandb to be installed.*pip install 'nqcast\[loggers\]'"):
        create_trainer(TinyModel(), config, module, tmp_path, use_wandb=True)
    assert not list(tmp_path.iterdir())

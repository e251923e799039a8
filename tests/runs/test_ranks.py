"""A training run by several processes: inputs on disk, the same end as one process, and two hosts."""

from __future__ import annotations

import logging
import shlex
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import FEATURES
from nqcast.data.fingerprint import data_card
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.runs.recipe import Recipe, agreed
from nqcast.runs.run import TrainingRun, read_run, write_run
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint, Metadata
from nqcast.training.distributed.launch import torchrun_command

from .conftest import SPLIT

ROOT = Path(__file__).parents[2]
Result = tuple[Checkpoint, list[dict]]


@pytest.fixture(scope="module")
def run(features: pd.DataFrame, recipe: Recipe) -> TrainingRun:
    """Five micro-batches an epoch, two of them a step: the last group is short."""
    splits = make_splits(features, SPLIT)
    scale = make_scale(recipe.scale, recipe.quantiles).fit(features, positions(splits, "train"))
    train = recipe.train.model_copy(update={"windows_per_epoch": 600, "accumulation": 2, "max_restarts": 1})
    return TrainingRun(
        features,
        splits,
        scale,
        data_card(features),
        *agreed(recipe.model, train, scale, len(FEATURES)),
    )


@pytest.fixture(scope="module")
def alone(run: TrainingRun, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What one process makes of it."""
    return train(run, tmp_path_factory.mktemp("alone"))


def assert_equal_results(one: Result, other: Result) -> None:
    assert one[1] == other[1]
    assert one[0].tensors.keys() == other[0].tensors.keys()
    for name, array in one[0].tensors.items():
        assert np.array_equal(array, other[0].tensors[name]), name


def test_a_runs_inputs_come_back_from_disk_as_they_were(run: TrainingRun, tmp_path: Path) -> None:
    earlier = Checkpoint({"model.w": np.arange(6.0).reshape(2, 3)}, Metadata(fingerprint="a" * 16))
    for started in (None, earlier):
        whole = TrainingRun(run.features, run.splits, run.scale, run.data_card, run.model, run.config, started)
        write_run(whole, tmp_path)
        back = read_run(tmp_path)
        pd.testing.assert_frame_equal(back.features, run.features)
        pd.testing.assert_frame_equal(back.splits, run.splits)
        assert (back.model, back.config, back.fingerprint) == (run.model, run.config, whole.fingerprint)
        arrays = back.scale.state()[0]
        assert all(np.array_equal(arrays[name], array) for name, array in run.scale.state()[0].items())
        if started:
            assert np.array_equal(back.warm_start.tensors["model.w"], earlier.tensors["model.w"])


def test_changed_or_missing_inputs_are_refused_by_name(run: TrainingRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="start the run with kedro on the first host"):
        read_run(tmp_path)
    write_run(run, tmp_path)
    with (tmp_path / "inputs" / "splits.parquet").open("ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"changed \(.*splits\.parquet: expected SHA-256"):
        read_run(tmp_path)


@pytest.mark.slow
def test_two_processes_give_the_checkpoint_and_history_of_one(
    run: TrainingRun, alone: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the train node's side: elastic launcher, workers, artifact; a second call returns what is there."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shared = run.with_train(devices=2)
    result = train(shared, tmp_path / "two")
    assert_equal_results(alone, result)
    assert not list((tmp_path / "two" / shared.fingerprint).glob("ranks/*.parquet"))  # of no more use
    again = train(run.with_train(devices=1), tmp_path / "two")
    assert again[1] == result[1]


@pytest.mark.slow
def test_two_hosts_meet_and_give_the_checkpoint_and_history_of_one_process(
    run: TrainingRun,
    alone: Result,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first host is the train node, the second the torchrun command that it prints; both on this machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    hosts = run.with_train(hosts=2, rendezvous=f"127.0.0.1:{port}")
    folder = tmp_path / "two" / hosts.fingerprint / "ranks"
    command = torchrun_command(folder, 1, hosts.config)
    others: list[subprocess.Popen] = []

    def second_host() -> None:
        while not (folder / "inputs").exists():
            time.sleep(0.1)
        words = shlex.split(command)
        others.append(subprocess.Popen([sys.executable, "-m", "torch.distributed.run", *words[1:]], cwd=ROOT))

    thread = threading.Thread(target=second_host)
    thread.start()
    with caplog.at_level(logging.INFO, logger="nqcast.training.distributed.launch"):
        result = train(hosts, tmp_path / "two")
    thread.join()
    assert others[0].wait(60) == 0
    assert any(command in message for message in caplog.messages)
    assert_equal_results(alone, result)

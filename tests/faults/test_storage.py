"""Full, read-only and shared disks; damaged files; an unfinished run of another kind."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError, Version
from tests.faults.killing import train
from tests.kedro_command import PROJECT

from nqcast.datasets.verified import VerifiedDataset
from nqcast.stopping import TrainingInterruptedError
from nqcast.storage import verified
from nqcast.storage.checkpoint import Checkpoint, CheckpointError, read_checkpoint
from nqcast.storage.errors import StorageError
from nqcast.storage.lock import DirectoryLock
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.run_card import OtherRunUnfinishedError, recorded, refuse_other_unfinished

SMALL_DISK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.faults.killing import train
train(Path(sys.argv[1]) / "run")
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a finished tiny run."""
    directory = tmp_path_factory.mktemp("storage") / "run"
    train(directory)
    return directory


def in_a_namespace(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script where it may mount file systems of its own; skips where that is not allowed."""
    probe = (
        subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
        if shutil.which("unshare")
        else None
    )
    if probe is None or probe.returncode:
        pytest.skip("no leave to mount a file system here: `unshare -rm` is needed")
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *arguments],
        cwd=PROJECT, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_disk_that_fills_up_keeps_the_last_checkpoint_whole_and_says_what_is_needed(tmp_path: Path) -> None:
    disk, kept = tmp_path / "disk", tmp_path / "kept"
    disk.mkdir()
    (tmp_path / "program.py").write_text(SMALL_DISK)
    script = 'mount -t tmpfs -o size=1100k none "$1"; "$2" "$3" "$1" "$4"; code=$?; cp -a "$1" "$5"; exit $code'
    done = in_a_namespace(script, str(disk), sys.executable, str(tmp_path / "program.py"), str(PROJECT), str(kept))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "StorageError" in last and "MiB needed" in last and "the last whole checkpoint is" in last
    folders = sorted((kept / "run").glob("checkpoint_epoch_*"))
    assert folders
    for folder in folders:
        read_checkpoint(folder)
    assert not list((kept / "run").glob(".tmp-checkpoint_epoch_*"))


@pytest.mark.slow
def test_a_read_only_output_fails_before_anything_runs(tmp_path: Path) -> None:
    script = 'mount -t tmpfs -o ro none "$1"; NQCAST_DATA="$1/data" "$2" run --env test'
    done = in_a_namespace(script, str(tmp_path), str(Path(sys.executable).with_name("kedro")))
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "the file system is read-only" in text
    assert "Traceback" not in text and "ingest:" not in text


def test_a_failed_fsync_leaves_the_last_checkpoint_and_no_rest(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "run"
    shutil.copytree(finished, directory, symlinks=True)
    store = CheckpointStore(directory, 2)
    before = sorted(path.name for path in directory.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(verified.os, "fsync", full)
    content = read_checkpoint(directory / "checkpoint_latest")
    with pytest.raises(StorageError, match=r"disk is full, .* MiB needed.*last whole checkpoint is .*epoch_0003"):
        store.save("checkpoint_epoch_0009", content, 0.1)
    assert sorted(path.name for path in directory.iterdir()) == before


def test_space_is_asked_for_before_a_checkpoint_is_written(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
    content = read_checkpoint(finished / "checkpoint_latest")
    with pytest.raises(StorageError, match=r"not enough space on disk: .* MiB needed"):
        CheckpointStore(tmp_path, 2).save("checkpoint_epoch_0001", content, 0.1)
    assert not list(tmp_path.iterdir())


def spoilt(content: bytes, rng: random.Random) -> bytes:
    """One flipped bit, or the end cut off."""
    if rng.random() < 0.3:
        return content[: rng.randrange(len(content))]
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def silent_loads(folder: Path, load: Callable[[], Any], same: Callable[[Any], bool], error: type, n: int) -> int:
    """Spoil a random file of the folder `n` times; number of loads that gave something else than what was saved."""
    rng, silent = random.Random(4), 0
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for _ in range(n):
        file = rng.choice(files)
        content = file.read_bytes()
        file.write_bytes(spoilt(content, rng))
        try:
            silent += not same(load())
        except error:
            pass
        finally:
            file.write_bytes(content)
    return silent


def test_five_hundred_flips_and_cuts_of_a_checkpoint_load_nothing_wrong(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree((finished / "checkpoint_latest").resolve(), folder)
    whole = read_checkpoint(folder)

    def same(found: Checkpoint) -> bool:
        assert found.training is not None and whole.training is not None
        pairs = ((found.tensors, whole.tensors), (found.training.tensors, whole.training.tensors))
        alike = all((mine[name] == array).all() for mine, theirs in pairs for name, array in theirs.items())
        return alike and found.training.state == whole.training.state and found.metadata == whole.metadata

    assert silent_loads(folder, lambda: read_checkpoint(folder), same, CheckpointError, 500) == 0


def test_five_hundred_flips_and_cuts_of_versioned_parquet_load_nothing_wrong(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.arange(300.0), "ts": pd.date_range("2020", periods=300, tz="UTC")})
    path = str(tmp_path / "features.parquet")
    inner = "pandas.ParquetDataset"
    VerifiedDataset(filepath=path, dataset=inner, version=Version(None, "2026-01-01T00.00.00.000Z")).save(frame)

    def load() -> pd.DataFrame:
        version = Version("2026-01-01T00.00.00.000Z", None)
        return VerifiedDataset(filepath=path, dataset=inner, version=version).load()

    assert silent_loads(tmp_path, load, frame.equals, DatasetError, 500) == 0


def stopped_run(root: Path, content: dict[str, Any]) -> Path:
    """A run directory as a stop in its second epoch leaves it."""
    directory = root / "stopped"
    with pytest.raises(TrainingInterruptedError), recorded(directory, content):
        (directory / "checkpoint_epoch_0001").mkdir()
        raise TrainingInterruptedError
    return directory


CONTENT = {"data": "abc", "train": {"learning_rate": 1e-3, "batch_size": 128}}


def test_a_new_run_is_refused_beside_a_stopped_one_with_the_differing_keys(tmp_path: Path) -> None:
    stopped = stopped_run(tmp_path, CONTENT)
    other = {"data": "def", "train": {"learning_rate": 1e-2, "batch_size": 128}}
    with pytest.raises(OtherRunUnfinishedError) as refused:
        refuse_other_unfinished(tmp_path, tmp_path / "new", other)
    message = str(refused.value)
    assert "data: saved 'abc', now 'def'; train.learning_rate: saved 0.001, now 0.01" in message
    assert "batch_size" not in message and str(stopped) in message and "train.resume=never" in message
    refuse_other_unfinished(tmp_path, stopped, CONTENT)  # its own continuation


@pytest.mark.parametrize(
    "text", ["", "{", '{"status": "unfin', "[]", '{"status": null}', '{"status": "fine"}', "[" * 100_000]
)
def test_a_stopped_run_is_protected_whatever_became_of_its_card(text: str, tmp_path: Path) -> None:
    """Emptied or half-written by a power cut, or edited: nothing but a whole card says that a run is over."""
    stopped = stopped_run(tmp_path, CONTENT)
    (stopped / "run.json").write_text(text)
    with pytest.raises(OtherRunUnfinishedError, match=stopped.name):
        refuse_other_unfinished(tmp_path, tmp_path / "new", {"data": "def"})


def test_finished_failed_untrained_and_living_runs_stand_in_nobodys_way(tmp_path: Path) -> None:
    def ask() -> None:
        refuse_other_unfinished(tmp_path, tmp_path / "new", {"data": "def"})

    ask()
    stopped = stopped_run(tmp_path, CONTENT)
    with DirectoryLock(stopped):
        ask()
    (stopped / "checkpoint_epoch_0001").rename(stopped / "checkpoint_epoch_0000")
    ask()
    (stopped / "checkpoint_epoch_0000").rename(stopped / "checkpoint_epoch_0001")
    with pytest.raises(OtherRunUnfinishedError):
        ask()
    with pytest.raises(ValueError, match="own"), recorded(stopped, CONTENT):
        raise ValueError("own")
    assert json.loads((stopped / "run.json").read_text())["status"] == "failed"
    ask()
    with recorded(stopped, CONTENT):
        pass
    assert json.loads((stopped / "run.json").read_text())["status"] == "finished"
    ask()

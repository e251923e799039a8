"""Kills a tiny training run with SIGKILL at random instants, lets it go on, and asks for the same end, bit by bit.

Other kinds kill who saves datasets (a calibration among them), who makes MLflow's database, and one of two runs at once
in a folder: what is there is whole, and who comes next goes on or is refused.

python -m tests.faults.killing --kills 20 --where writes     (make soak: 400 kills of training, 400 of the others)
python -m tests.faults.killing --kills 20 12 --where writes saves     (one after the other, by one process)
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from kedro.io import Version
from tests.training.conftest import HORIZONS, TinyLoader, TinyModel
from tqdm import tqdm

from nqcast.datasets.verified import VerifiedDataset
from nqcast.storage.checkpoint import CheckpointError, read_checkpoint
from nqcast.storage.lock import DirectoryBusyError
from nqcast.tracking.store import MlflowStore, destination
from nqcast.training import TrainConfig, Trainer
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.run_card import recorded

STAMP = "2026-01-01T00.00.00.000Z"
BUSY = 75  # status of a run that was refused

CONFIG = TrainConfig(
    epochs=3, batch_size=16, accumulation=2, learning_rate=5e-3, warmup_steps=6, t_0=2, horizons=HORIZONS,
    device="cpu", seed=3, log_every=1, top_k=2, every_minutes=1e-9,
)  # fmt: skip


def train(directory: Path, on_write: Callable[[], None] = lambda: None) -> None:
    """One whole run, or the rest of one; a checkpoint after every step, `on_write` before each."""
    torch.set_num_threads(1)
    torch.manual_seed(11)
    trainer = Trainer(TinyModel(), CONFIG, TinyLoader(90, 16, 3), TinyLoader(40, 16, None), directory, "cpu")
    save = trainer.store.save
    trainer.store.save = lambda *content: (on_write(), save(*content))[1]  # type: ignore[method-assign]
    with recorded(directory, {"run": "tiny"}):
        trainer.train()


def forked(work: Callable[[], None]) -> int:
    """Process that does `work` and leaves without unwinding; torch has been imported before."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    tqdm.set_lock(threading.RLock())  # its own is shared by forked processes: one that is killed in it stops the others
    try:
        work()
        status = 0
    finally:
        os._exit(status)


def finish(directory: Path) -> None:
    """Let the run go on to its end in a process of its own."""
    _, status = os.waitpid(forked(lambda: train(directory)), 0)
    if status:
        raise RuntimeError(f"a run was lost: going on in {directory} ended with status {status}")


def end_of(directory: Path) -> dict[str, Any]:
    """What must be equal: weights, moments, history, the best one's name and every line of metrics."""
    last = read_checkpoint(directory / "checkpoint_latest")
    assert last.training is not None
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    tensors = {**last.tensors, **last.training.tensors}
    return {
        "tensors": {k: hashlib.sha256(v.tobytes()).hexdigest() for k, v in tensors.items()},
        "progress": last.training.state["progress"],
        "early_stopping": last.training.state["early_stopping"],
        "best": (directory / "checkpoint_best").resolve().name,
        "lines": [{k: v for k, v in line.items() if k != "validation_seconds"} for line in lines],
    }


def good(directory: Path) -> int:
    """Number of checkpoints that verify."""
    return sum(_verifies(folder) for folder in CheckpointStore(directory, 2).folders())


def _verifies(folder: Path) -> bool:
    try:
        read_checkpoint(folder)
    except CheckpointError:
        return False
    return True


def kill_anywhere(directory: Path, rng: random.Random, seconds: float) -> bool:
    """Kill a run at a random instant; False when it was over before."""
    pid = forked(lambda: train(directory))
    time.sleep(rng.uniform(0, seconds))
    return _kill(pid)


def kill_in_a_write(directory: Path, rng: random.Random, writes: int, seconds: float) -> bool:
    """Kill a run while its k-th checkpoint is written; at least two of those before must still verify."""
    reader, writer = os.pipe()
    k = rng.randint(1, writes)
    pid = forked(lambda: train(directory, lambda: os.write(writer, b".") and None))
    os.close(writer)
    for _ in range(k):
        os.read(reader, 1)
    time.sleep(rng.uniform(0, seconds))
    killed = _kill(pid)
    os.close(reader)
    if (found := good(directory)) < min(2, k - 1):
        raise RuntimeError(f"expected two good checkpoints in {directory} after {k - 1} writes, found {found}")
    return killed


def _kill(pid: int) -> bool:
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def measure(root: Path) -> tuple[dict[str, Any], float, int, float]:
    """End of an undisturbed run, its seconds, its number of checkpoints and the seconds that one takes."""
    directory = root / "whole"
    reader, writer = os.pipe()
    begun = time.monotonic()
    pid = forked(lambda: train(directory, lambda: os.write(writer, b".") and None))
    os.close(writer)
    writes = 0
    while os.read(reader, 1):
        writes += 1
    os.close(reader)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError("the undisturbed run failed")
    seconds = time.monotonic() - begun
    return end_of(directory), seconds, writes, seconds / writes


def soak(kills: int, where: str, seed: int, root: Path) -> int:
    """Kill `kills` runs once each, at random; returns how many were killed. Raises RuntimeError for the first loss."""
    rng = random.Random(seed)
    train(root / "first")  # what torch imports and sets up on first use, every forked run inherits
    whole, seconds, writes, each = measure(root)
    done = 0
    while done < kills:
        directory = root / f"run_{done:04d}"
        if where == "writes":
            killed = kill_in_a_write(directory, rng, writes, each)
        else:
            killed = kill_anywhere(directory, rng, seconds)
        finish(directory)
        if end_of(directory) != whole:
            raise RuntimeError(f"the run killed and resumed in {directory} ended otherwise than the undisturbed one")
        shutil.rmtree(directory)
        done += killed
    return done


def documents(folder: Path, stamp: str) -> list[VerifiedDataset]:
    """A report that is replaced, and a calibration and a table of which every save is a version."""
    version = Version(None, stamp)
    return [
        VerifiedDataset(filepath=str(folder / "report.json"), dataset="json.JSONDataset"),
        VerifiedDataset(filepath=str(folder / "calibration.json"), dataset="json.JSONDataset", version=version),
        VerifiedDataset(filepath=str(folder / "bars.parquet"), dataset="pandas.ParquetDataset", version=version),
    ]


def contents(i: int) -> list[Any]:
    """The i-th content of each, which tells by itself whether it is whole."""
    state = {"weights": hashlib.sha256(b"%d" % i).hexdigest(), "i": i, "offsets": [i] * 2_000}
    return [state, state, pd.DataFrame({"i": np.full(5_000, i), "x": np.arange(5_000.0) + i})]


def save_for_ever(folder: Path) -> None:
    """Save again and again, by a clock that stands still."""
    for i in itertools.count():
        for dataset, content in zip(documents(folder, STAMP), contents(i), strict=True):
            dataset.save(content)


def load_whole(folder: Path) -> list[int]:
    """The numbers of what a new session loads; RuntimeError where one is in pieces, or its neighbours lie about."""
    found = []
    for dataset in documents(folder, "unused"):
        content = dataset.load()
        i = int(content["i"].iloc[0]) if isinstance(content, pd.DataFrame) else content["i"]
        expected = contents(i)[0 if isinstance(content, dict) else 2]
        if not (content.equals(expected) if isinstance(content, pd.DataFrame) else content == expected):
            raise RuntimeError(f"expected one whole content in {dataset}, found pieces of several")
        found.append(i)
    return found


def kill_savers(kills: int, seed: int, root: Path) -> int:
    """Kill two processes that save the same entries: what a session loads is whole, and the next save sweeps up."""
    rng, done = random.Random(seed), 0
    for dataset, content in zip(documents(root, STAMP), contents(0), strict=True):
        dataset.save(content)
    while done < kills:
        savers = [forked(lambda: save_for_ever(root)) for _ in range(2)]
        time.sleep(rng.uniform(0, 0.1))
        done += sum([_kill(pid) for pid in savers])
        load_whole(root)
        for dataset, content in zip(documents(root, STAMP), contents(done), strict=True):
            dataset.save(content)
        found, rests = load_whole(root), list(root.rglob(".*"))
        if found != [done] * 3 or rests:
            raise RuntimeError(f"expected what was saved last ({done}) and no rests in {root}, found {found} {rests}")
        for entry in ("calibration.json", "bars.parquet"):
            for version in sorted((root / entry).iterdir())[:-3]:
                shutil.rmtree(version)
    return done


def kill_makers_of_databases(kills: int, seed: int, root: Path) -> int:
    """Kill processes that make MLflow's database, two at a time; whoever comes next has a whole one and its run."""
    rng, done, seconds = random.Random(seed), 0, 1.0

    def open_store(folder: Path, key: str) -> None:
        start = {"experiment": "nqcast", "time": 0, "tags": {}, "name": key}
        MlflowStore(destination(folder, None), 5.0).ensure_run(start, key)

    for number in itertools.count():
        folder = root / f"{number:04d}"
        makers = [forked(lambda folder=folder, key=key: open_store(folder, key)) for key in "ab"]
        begun = time.monotonic()
        time.sleep(rng.uniform(0, seconds))
        done += sum([_kill(pid) for pid in makers])
        if os.waitpid(forked(lambda folder=folder: open_store(folder, "after")), 0)[1]:
            raise RuntimeError(f"expected a whole database in {folder} after the kill of its makers, found none")
        seconds = 0.8 * seconds + 0.2 * (time.monotonic() - begun)
        shutil.rmtree(folder)
        if done >= kills:
            return done


def two_runs_at_once(kills: int, seed: int, root: Path) -> int:
    """Two runs begin in one folder and one of them is killed: who works there ends equal, the other is refused."""
    rng = random.Random(seed)
    train(root / "first")
    whole, seconds, _, _ = measure(root)
    for done in range(kills):
        directory = root / f"run_{done:04d}"
        pids = [forked(lambda directory=directory: train_or_leave(directory)) for _ in range(2)]
        time.sleep(rng.uniform(0, seconds))
        _kill(rng.choice(pids))
        for pid in pids:
            with contextlib.suppress(ChildProcessError):
                if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) not in (0, BUSY):
                    raise RuntimeError(f"expected a run that ends or is refused in {directory}, found another end")
        finish(directory)
        if end_of(directory) != whole:
            raise RuntimeError(f"two runs at once in {directory} ended otherwise than the undisturbed one")
        shutil.rmtree(directory)
    return kills


def train_or_leave(directory: Path) -> None:
    """Train, or leave with the status of a refusal where another process trains there."""
    try:
        train(directory)
    except DirectoryBusyError:
        os._exit(BUSY)


KINDS: dict[str, Callable[[int, int, Path], int]] = {
    "anywhere": lambda kills, seed, root: soak(kills, "anywhere", seed, root),
    "writes": lambda kills, seed, root: soak(kills, "writes", seed, root),
    "saves": kill_savers,
    "database": kill_makers_of_databases,
    "two": two_runs_at_once,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, nargs="+", default=[20])
    parser.add_argument("--where", nargs="+", choices=list(KINDS), default=["anywhere"])
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for where, kills in zip(options.where, options.kills, strict=True):
        root = Path(tempfile.mkdtemp(prefix="nqcast-kills-"))
        done = KINDS[where](kills, options.seed, root)
        shutil.rmtree(root)
        sys.stdout.write(f"{done} kills ({where}), 0 runs lost, {done} bit-equal ends\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

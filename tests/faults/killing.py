"""Kills a tiny training run with SIGKILL at random instants, lets it go on, and asks for the same end, bit by bit.

python -m tests.faults.killing --kills 20 --where writes     (make soak: 200 kills of either kind)
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tests.training.conftest import HORIZONS, TinyLoader, TinyModel

from nqcast.storage.checkpoint import CheckpointError, read_checkpoint
from nqcast.training import TrainConfig, Trainer
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.run_card import carded

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
    with carded(directory, {"run": "tiny"}):
        trainer.train()


def forked(work: Callable[[], None]) -> int:
    """Process that does `work` and leaves without unwinding; torch has been imported before."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--where", choices=["anywhere", "writes"], default="anywhere")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="nqcast-kills-"))
    done = soak(options.kills, options.where, options.seed, root)
    shutil.rmtree(root)
    sys.stdout.write(f"{done} kills ({options.where}), 0 runs lost, {done} bit-equal ends\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""A training run by several processes: its inputs on disk, the launcher, and what the ranks have left."""

from __future__ import annotations

import shutil
from pathlib import Path

from nqcast.runs.inputs import write_run
from nqcast.runs.run import TrainingRun
from nqcast.stopping import finishing
from nqcast.storage.checkpoint import Json
from nqcast.storage.lock import DirectoryLock
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.distributed.launch import launch
from nqcast.training.distributed.watchdog import stop_flag
from nqcast.training.run_card import FINISHED, TrainingInterruptedError, move_aside, status_of

RANKS = "ranks"  # folder of a run directory: inputs of the ranks, their stacks, the stop flag


def train_launched(run: TrainingRun, directory: Path, processes: int) -> list[Json]:
    """Train in `directory` by `processes` ranks on this host and those of further ones; returns the history.

    A signal reaches the ranks as a flag in the folder that they share.
    """
    folder = (directory / RANKS).absolute()
    with DirectoryLock(directory):
        if run.config.resume == "never":  # once, here: a restarted rank must go on
            move_aside(directory)
        write_run(run.with_train(resume="auto"), folder)
        with finishing(stop_flag(folder).touch):
            launch(folder, processes, run.config)
    if status_of(directory) != FINISHED:
        raise TrainingInterruptedError(f"training in {directory} was asked to stop; the same run goes on there")
    found = CheckpointStore(directory, run.config.top_k).newest_verified()
    if found is None or found[1].training is None:
        raise RuntimeError(f"training left no whole checkpoint in {directory}: see the log above for its reason")
    shutil.rmtree(folder, ignore_errors=True)  # inputs and empty stack files: of no more use
    return list(found[1].training.state["progress"]["history"])

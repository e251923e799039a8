"""Training a run, in this process or by several, and the artifact that leaves it."""

import logging
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import fitted_quantiles
from nqcast.evaluation.config import REFERENCES, EvaluateConfig
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.forecast.predictor import load_model, predict
from nqcast.model import MIGT_TVDT, fuse
from nqcast.model.config import ModelConfig
from nqcast.model.members import first_of
from nqcast.runs.run import Run, TrainingRun, write_run
from nqcast.stopping import TrainingInterruptedError, finishing, leave_if_asked
from nqcast.storage.checkpoint import MEMBERS, Checkpoint, read_checkpoint
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.json_values import Json
from nqcast.storage.lock import DirectoryLock
from nqcast.tracking.logger import NestedRun, follow, nested
from nqcast.training import create_trainer
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.device import deterministic_kernels
from nqcast.training.distributed.launch import launch, processes_here
from nqcast.training.distributed.ranks import Ranks
from nqcast.training.distributed.watchdog import stop_flag
from nqcast.training.loggers import Logger
from nqcast.training.run_card import (
    FINISHED,
    move_aside,
    recorded,
    refuse_other_unfinished,
    status_of,
)

log = logging.getLogger(__name__)

Trained = tuple[Checkpoint, list[Json]]
"""The checkpoint artifact and the history, one dict per epoch."""


def train(run: Run, root: Path, logger: Logger | None = None) -> Trained:
    """Train below `root`.

    `logger` is called after every epoch where one process trains; what it raises ends the run.

    Raises:
        OtherRunUnfinishedError: the latest run below `root` was stopped before its end and is another one.
        RunStopped: a signal asked for an end; the step was finished and a checkpoint written.
        TrainingInterruptedError: someone else asked the Trainer to stop.
    """
    if run.config.members != 1:
        return _train_members(run, root, logger)
    directory = root / run.fingerprint
    with deterministic_kernels(run.config.deterministic):
        if run.config.resume == "auto":
            refuse_other_unfinished(root, directory, run.content)
        else:
            with DirectoryLock(directory):
                move_aside(directory)  # before its metrics are followed, and before ranks, which must go on, start
        follow(directory)
        processes = processes_here(run.config)
        if processes * run.config.hosts > 1:
            assert isinstance(run, TrainingRun), "a pool asks for one process before it comes here"
            history = train_launched(run, directory, processes)
        else:
            history = train_here(run, directory, logger=logger)
    best = CheckpointStore(directory, run.config.top_k).best_verified()
    if best is None:
        raise RuntimeError(f"expected a whole checkpoint in {directory}, found none: see the log above for its reason")
    artifact = _artifact(run, best)
    if artifact.metadata.epoch == 0 and run.config.epochs and run.warm_start is None:
        log.warning(
            "no epoch was better on validation than the untrained network, which comes back (best epoch 0): it says "
            "what %s says; more bars, a lower train.learning_rate or another seed may teach it more",
            run.config.start_name,
        )
    return artifact, history


def train_inside(run: Run, root: Path, name: str) -> Trained:
    """Train as a run inside the tracked one; several networks are runs inside it by themselves."""
    with nested(NestedRun(run.fingerprint, name, {}, {})) if run.config.members == 1 else nullcontext():
        return train(run, root)


def _train_members(run: Run, root: Path, logger: Logger | None) -> Trained:
    """Train one network after the other, each a run of its own that resumes by itself, and make one checkpoint of all.

    `logger` follows the first. Of numbers in the history and the metrics each is the mean over the networks.
    """
    trained: list[Trained] = []
    for number in range(int(run.config.members)):
        name, seed = f"member {number + 1} of {run.config.members}", run.config.seed + number
        with nested(NestedRun(f"{run.fingerprint}/{number}", name, {"train": {"seed": seed}}, {})):
            log.info("%s, seed %d", name, seed)
            trained.append(train(run.member(number), root, None if number else logger))
    checkpoints, histories = zip(*trained, strict=True)
    epochs = [list(filter(None, records)) for records in zip_longest(*histories)]
    return _as_one(run, checkpoints), [_mean(records) for records in epochs]


def _as_one(run: Run, checkpoints: Sequence[Checkpoint]) -> Checkpoint:
    """The checkpoint of several networks; its epoch is the latest of theirs, so 0 where none has learnt."""
    weights = {
        f"{MEMBERS}{number}.{name}": array
        for number, one in enumerate(checkpoints)
        for name, array in one.part("model").items()
    }
    found = [one.metadata for one in checkpoints]
    metadata = replace(
        run.origin.metadata,
        fingerprint=fingerprint([one.fingerprint for one in found]),
        epoch=max(one.epoch for one in found),
        metrics=_mean([one.metrics for one in found]) | {"member_epochs": [one.epoch for one in found]},
    )
    return Checkpoint(weights | run.origin.tensors, metadata)


def _mean(records: Sequence[Json]) -> Json:
    """The mean of each number over records of equal names; None where one has none."""
    values: dict[str, list[Any]] = {name: [record.get(name) for record in records] for name in records[0]}
    return {name: None if None in found else float(np.mean(found)) for name, found in values.items()}


def train_here(run: Run, directory: Path, ranks: Ranks | None = None, logger: Logger | None = None) -> list[Json]:
    """Train in `directory`, in this process, alone or as one of several ranks; returns the history.

    Raises RunStopped or TrainingInterruptedError like `train`.
    """
    trainer = create_trainer(_start(run), run.config, run.data_module(), directory, logger=logger, ranks=ranks)
    trainer.origin = run.origin
    trainer.reference_losses |= run.reference_losses()
    if run.warm_start is not None:
        trainer.start_name = "warm_start"
    log.info("run directory %s", directory)
    log.debug(trainer.model.summary())
    card = recorded(directory, run.content) if trainer.writes else nullcontext()
    with finishing(trainer.request_stop), card:
        history = trainer.train()
        leave_if_asked()
        if trainer.status == "stopped":
            raise TrainingInterruptedError(f"training in {directory} was asked to stop; the same run goes on there")
    return history


def _start(run: Run) -> MIGT_TVDT:
    """The network before its first step; base quantiles and feature moments are set from the anchors afterwards."""
    if run.warm_start is None:
        return fuse(MIGT_TVDT(run.model, seed=run.config.seed))
    earlier = ModelConfig(**run.warm_start.metadata.model)
    if earlier != run.model:
        raise ValueError(
            f"expected a warm start from a checkpoint of the same model, found {earlier} for {run.model}: "
            "start from one with the same model.* parameters, or cold"
        )
    return first_of(load_model(run.warm_start))


def _artifact(run: Run, folder: Path) -> Checkpoint:
    """The weights of a working checkpoint with this run's scale; an earlier version's has none of its own."""
    working, origin = read_checkpoint(folder), run.origin
    assert working.training is not None
    progress = working.training.state["progress"]
    metadata = replace(origin.metadata, epoch=progress["epoch"], metrics=progress["history"][-1])
    return Checkpoint(working.tensors | origin.tensors, metadata)


RANKS = "ranks"  # folder of a run directory: inputs of the ranks, their stacks, the stop flag


def train_launched(run: TrainingRun, directory: Path, processes: int) -> list[Json]:
    """Train in `directory` by `processes` ranks on this host and those of further ones; returns the history.

    A signal reaches the ranks as a flag in the folder that they share.
    """
    folder = (directory / RANKS).absolute()
    with DirectoryLock(directory):
        write_run(run.with_train(resume="auto"), folder)
        with finishing(stop_flag(folder).touch):
            launch(folder, processes, run.config)
    if status_of(directory) != FINISHED:
        raise TrainingInterruptedError(f"training in {directory} was asked to stop; the same run goes on there")
    found = CheckpointStore(directory, run.config.top_k).newest_verified()
    if found is None or found[1].training is None:
        raise RuntimeError(f"expected a whole checkpoint in {directory}, found none: see the log above for its reason")
    shutil.rmtree(folder, ignore_errors=True)  # inputs and empty stack files: of no more use
    return list(found[1].training.state["progress"]["history"])


def validation_report(
    checkpoint: Checkpoint, features: pd.DataFrame, train: Positions, validation: Positions, config: EvaluateConfig
) -> dict[str, float]:
    """`metrics.named_metrics` of the checkpoint at the validation anchors, and its skill over two references.

    skill_<reference>_<horizon> = 1 − loss / loss of the reference fitted on the train anchors, in log-return units;
    skill_<reference> is the mean over horizons.
    """
    levels, horizons = tuple(checkpoint.metadata.quantiles), checkpoint.metadata.horizons
    quantiles, scale = predict(checkpoint, features, validation, config)
    targets = targets_at(features, validation, horizons)
    report = metrics.named_metrics(quantiles, targets, levels, horizons, scale)
    loss = metrics.mean_pinball(quantiles, targets, levels)
    for name, reference in fitted_quantiles(REFERENCES, features, train, validation, levels, config.seed).items():
        skill = metrics.skill(loss, metrics.mean_pinball(reference, targets, levels))
        report |= {f"skill_{name}_{horizon}": float(s) for horizon, s in zip(horizons, skill, strict=True)}
        report[f"skill_{name}"] = float(np.mean(skill))
    return report

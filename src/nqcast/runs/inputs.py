"""A training run's inputs on disk, for the ranks that work on it: tables, and a checkpoint of what else there is."""

from pathlib import Path

import pandas as pd

from nqcast.data.seasonal_har import scale_from_state
from nqcast.model.config import ModelConfig
from nqcast.runs.run import TrainingRun
from nqcast.storage.checkpoint import MANIFEST, checkpoint_files, read_checkpoint
from nqcast.storage.verified import VerificationError, verify, write_folder
from nqcast.training.config import TrainConfig

INPUTS, _FEATURES, _SPLITS, _WARM_START = "inputs", "features.parquet", "splits.parquet", "warm_start"


def write_run(run: TrainingRun, folder: Path) -> None:
    """Write the run's inputs below `folder`, whole or not at all."""

    def fill(inputs: Path) -> None:
        run.features.to_parquet(inputs / _FEATURES)
        run.splits.to_parquet(inputs / _SPLITS)
        for name, content in checkpoint_files(run.origin).items():
            (inputs / name).write_bytes(content)
        if run.warm_start is not None:
            write_folder(inputs / _WARM_START, checkpoint_files(run.warm_start.without_training()), MANIFEST)

    write_folder(folder / INPUTS, fill, MANIFEST, replace=True)


def read_run(folder: Path) -> TrainingRun:
    """The run that `write_run` wrote. Raises ValueError where files are missing, changed, or of another version."""
    inputs, warm = folder / INPUTS, folder / INPUTS / _WARM_START
    try:
        verify(inputs / MANIFEST)
        origin, warm_start = read_checkpoint(inputs), read_checkpoint(warm) if warm.exists() else None
    except VerificationError as error:
        raise ValueError(
            f"expected a run's inputs in {inputs}, found them missing or changed ({error}); start the run with kedro "
            "on the first host, and give the others its disk"
        ) from error
    known = origin.metadata
    run = TrainingRun(
        pd.read_parquet(inputs / _FEATURES),
        pd.read_parquet(inputs / _SPLITS),
        scale_from_state(origin.part("scale"), known.scale),
        known.data,
        ModelConfig(**known.model),
        TrainConfig(**known.train),
        warm_start,
    )
    if run.fingerprint != known.fingerprint:
        raise ValueError(
            f"expected the run {known.fingerprint} in {inputs}, found {run.fingerprint}: it was written by another "
            "version of nqcast; install the same one on every host"
        )
    return run

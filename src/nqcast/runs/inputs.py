"""A training run's inputs on disk, for the ranks that work on it: parquet, safetensors, JSON, each with its digest."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import safetensors.numpy

from nqcast.model.config import ModelConfig
from nqcast.runs.run import TrainingRun
from nqcast.storage.checkpoint import Checkpoint, DataCard, Metadata
from nqcast.storage.errors import storage_errors
from nqcast.storage.json_values import Json, read_object
from nqcast.storage.verified import replace_file, sha256_of
from nqcast.training.config import TrainConfig

CARD = "inputs.json"


def write_run(run: TrainingRun, folder: Path) -> None:
    """Write the run's inputs into `folder`; the card, with the digests of the others, comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    with storage_errors(folder, int(run.features.memory_usage().sum())):
        run.features.to_parquet(folder / "features.parquet")
        run.splits.to_parquet(folder / "splits.parquet")
        (folder / "scale.safetensors").write_bytes(safetensors.numpy.save(run.scale["arrays"]))
        names = ["features.parquet", "splits.parquet", "scale.safetensors"]
        if run.warm_start is not None:
            (folder / "warm_start.safetensors").write_bytes(safetensors.numpy.save(run.warm_start.tensors))
            names.append("warm_start.safetensors")
        card = {
            "fingerprint": run.fingerprint,
            "scale": run.scale["scalars"],
            "data_card": run.data_card.to_json(),
            "model": run.model.model_dump(mode="json"),
            "train": run.config.model_dump(mode="json"),
            "warm_start": run.warm_start and run.warm_start.metadata.to_json(),
            "sha256": {name: sha256_of(folder / name) for name in names},
        }
        replace_file(folder / CARD, json.dumps(card, default=str).encode())


def read_run(folder: Path) -> TrainingRun:
    """The run that `write_run` wrote. Raises ValueError where files are missing, changed, or of another version."""
    try:
        card = read_object((folder / CARD).read_bytes(), folder / CARD)
        changed = [name for name, digest in card["sha256"].items() if sha256_of(folder / name) != digest]
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"expected a run's inputs in {folder}, found them missing or unreadable ({error}); start the run with "
            "kedro on the first host, and give the others its disk"
        ) from error
    if changed:
        raise ValueError(f"expected {folder} as its card describes it, found {', '.join(changed)} changed; write anew")
    run = TrainingRun(
        pd.read_parquet(folder / "features.parquet"),
        pd.read_parquet(folder / "splits.parquet"),
        {"arrays": _arrays(folder / "scale.safetensors"), "scalars": card["scale"]},
        DataCard.of(card["data_card"]),
        ModelConfig(**card["model"]),
        TrainConfig(**card["train"]),
        _warm_start(folder, card["warm_start"]),
    )
    if run.fingerprint != card["fingerprint"]:
        raise ValueError(
            f"expected the run {card['fingerprint']} in {folder}, found {run.fingerprint}: it was written by another "
            "version of nqcast; install the same one on every host"
        )
    return run


def _warm_start(folder: Path, metadata: Json | None) -> Checkpoint | None:
    return Checkpoint(_arrays(folder / "warm_start.safetensors"), Metadata.of(metadata)) if metadata else None


def _arrays(path: Path) -> dict[str, np.ndarray]:
    return safetensors.numpy.load(path.read_bytes())

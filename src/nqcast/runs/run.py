"""What a training run is made of, by which fingerprint it is known, and the data that it trains on.

For the ranks that work on it a run's inputs lie on disk: two tables, and a checkpoint of what else there is.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import pandas as pd

from nqcast import __version__
from nqcast.data.config import LoaderConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.own_features import feature_names
from nqcast.data.scale import Scale
from nqcast.data.seasonal_har import scale_from_state
from nqcast.data.splits import positions
from nqcast.evaluation.baselines import fitted_quantiles
from nqcast.evaluation.frames import targets_at
from nqcast.evaluation.metrics import mean_pinball
from nqcast.fields import changed
from nqcast.model.config import ModelConfig
from nqcast.storage.checkpoint import MANIFEST, Checkpoint, DataCard, Metadata, checkpoint_files, read_checkpoint
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.json_values import Json
from nqcast.storage.verified import VerificationError, verify, write_folder
from nqcast.training.config import FREE_ON_RESUME, TrainConfig
from nqcast.training.device import pick_device
from nqcast.training.factory import DataModule


class Run(ABC):
    """What a run is made of; equal parts have equal fingerprints, and a fingerprint has one run directory."""

    model: ModelConfig
    config: TrainConfig
    warm_start: Checkpoint | None  # a checkpoint of the same model, trained on earlier anchors

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the content."""
        return fingerprint(self.content)

    @property
    def content(self) -> Json:
        """Data, splits, scale, model and what a step computes."""
        content = {
            **self.made_of,
            "model": self.model.model_dump(mode="json", exclude=set(ModelConfig.without_effect)),
            "train": self.config.model_dump(mode="json", exclude=set(FREE_ON_RESUME)),
        }
        if self.warm_start is not None:
            content["warm_start"] = self.warm_start.weights_sha256
        return content

    @property
    @abstractmethod
    def made_of(self) -> Json:
        """Data, splits and scale, by what tells them from others."""

    @property
    @abstractmethod
    def origin(self) -> Checkpoint:
        """What every checkpoint of the run holds beside the network's weights: the scale, and what all is made of."""

    @abstractmethod
    def data_module(self) -> DataModule:
        """Loaders, base quantiles and feature moments, as `create_trainer` takes them."""

    def reference_losses(self) -> dict[str, dict[str, float]]:
        """Validation losses of other forecasts per horizon, against which the Trainer states skill; by default none."""
        return {}

    def with_train(self, **fields: object) -> Self:
        """This run with other fields of train.*, checked."""
        return replace(self, config=changed(self.config, fields))  # type: ignore[type-var]

    def member(self, number: int) -> Self:
        """The run of one of `config.members` networks: the same with a seed of its own, and its own warm start."""
        warm = None if self.warm_start is None else self.warm_start.member(number)
        alone = self.with_train(members=1, seed=self.config.seed + number)
        return replace(alone, warm_start=warm)  # type: ignore[type-var]

    def _metadata(self, data: DataCard, scale: Json, features: tuple[str, ...]) -> Metadata:
        return Metadata(
            fingerprint=self.fingerprint,
            data=data,
            model=self.model.model_dump(mode="json"),
            train=self.config.model_dump(mode="json"),
            scale=scale,
            features=features,
            horizons=tuple(self.config.horizons),
            quantiles=tuple(self.config.quantiles),
            version=__version__,
        )


@dataclass(frozen=True)
class TrainingRun(Run):
    """A run on one feature table."""

    features: pd.DataFrame
    splits: pd.DataFrame
    scale: Scale  # fitted
    data_card: DataCard
    model: ModelConfig
    config: TrainConfig
    warm_start: Checkpoint | None = None

    @property
    def made_of(self) -> Json:
        """The table's fingerprint, counts and bounds of the splits, and the scale's numbers."""
        counts = self.splits["split"].value_counts().to_dict()
        bounds = self.splits.groupby("split")["position"].agg(["min", "max"]).to_dict()
        return {"data": self.data_card.fingerprint, "splits": [counts, bounds], "scale": self.scale.state()[1]}

    @property
    def origin(self) -> Checkpoint:
        """The scale, and what all is made of."""
        arrays, scalars = self.scale.state()
        metadata = self._metadata(self.data_card, scalars, feature_names(self.features))
        return Checkpoint({f"scale.{name}": array for name, array in arrays.items()}, metadata)

    def data_module(self) -> NQDataModule:
        """The windows of the feature table on the run's device."""
        loader = LoaderConfig(
            context=self.model.context,
            seed=self.config.seed,
            windows_per_epoch=self.config.windows_per_epoch,
            volatility=bool(self.model.n_volatility),
            device=str(pick_device(self.config.device)),
        )
        return NQDataModule.from_frames(self.features, self.splits, self.scale, self.config.batch_size, loader)

    def reference_losses(self) -> dict[str, dict[str, float]]:
        """The losses of constant train quantiles and, after a warm start, of the scale alone, a cold run's start."""
        levels, horizons = self.config.quantiles, self.config.horizons
        train_anchors, validation = positions(self.splits, "train"), positions(self.splits, "validation")
        quantiles = fitted_quantiles(("constants",), self.features, train_anchors, validation, levels)
        if self.warm_start is not None:
            quantiles[self.config.start_name] = self.scale.quantiles(self.features, validation)
        targets = targets_at(self.features, validation, horizons)
        losses = {name: mean_pinball(forecast, targets, levels) for name, forecast in quantiles.items()}
        return {name: dict(zip(horizons, map(float, loss), strict=True)) for name, loss in losses.items()}


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

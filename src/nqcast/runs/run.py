"""One training run: data module, model and Trainer joined, and the artifact that leaves it."""

from __future__ import annotations

import logging
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast import __version__
from nqcast.constants import HORIZONS
from nqcast.data.config import LoaderConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import feature_names
from nqcast.data.seasonal_har import scale_from_state
from nqcast.data.splits import positions
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.frames import targets_at
from nqcast.evaluation.metrics import mean_pinball
from nqcast.forecast.predictor import load_model
from nqcast.model import MIGT_TVDT, fuse
from nqcast.model.config import ModelConfig
from nqcast.stopping import finishing, leave_if_asked
from nqcast.storage.checkpoint import Checkpoint, Metadata, read_checkpoint
from nqcast.storage.json_values import fingerprint
from nqcast.training import create_trainer
from nqcast.training.checkpoint import CheckpointStore
from nqcast.training.config import FREE_ON_RESUME, TrainConfig
from nqcast.training.device import deterministic_kernels, pick_device
from nqcast.training.distributed.launch import processes_here
from nqcast.training.distributed.ranks import Ranks
from nqcast.training.run_card import TrainingInterruptedError, carded, refuse_other_unfinished

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingRun:
    """What a run is made of; equal parts have equal fingerprints, and a fingerprint has one run directory."""

    features: pd.DataFrame
    splits: pd.DataFrame
    scale: dict[str, Any]
    data_card: dict[str, Any]
    model: ModelConfig
    config: TrainConfig
    warm_start: Checkpoint | None = None  # a checkpoint of the same model, trained on earlier anchors

    @property
    def fingerprint(self) -> str:
        """First 16 hexadecimal digits of the SHA-256 of the content."""
        return fingerprint(self.content)

    @property
    def content(self) -> dict[str, Any]:
        """Data, splits, scale, model and what a step computes."""
        counts = self.splits["split"].value_counts().to_dict()
        bounds = self.splits.groupby("split")["position"].agg(["min", "max"]).to_dict()
        content = {
            "data": self.data_card["fingerprint"],
            "splits": [counts, bounds],
            "scale": self.scale["scalars"],
            "model": self.model.model_dump(mode="json", exclude=set(ModelConfig.without_effect)),
            "train": self.config.model_dump(mode="json", exclude=set(FREE_ON_RESUME)),
        }
        if self.warm_start is not None:
            content["warm_start"] = self.warm_start.weights_sha256
        return content

    def train(self, root: Path, logger: Any = None) -> tuple[Checkpoint, list[dict[str, Any]]]:
        """Train below `root`; returns the checkpoint artifact and the history, one dict per epoch.

        `logger` has log(dict, step=…), called after every epoch where one process trains; what it raises ends the run.

        Raises:
            OtherRunUnfinishedError: the latest run below `root` was stopped before its end and is another one.
            RunStopped: a signal asked for an end; the step was finished and a checkpoint written.
            TrainingInterruptedError: someone else asked the Trainer to stop.
        """
        with deterministic_kernels(self.config.deterministic):
            return self._train(root, root / self.fingerprint, logger)

    def _train(self, root: Path, directory: Path, follower: Any) -> tuple[Checkpoint, list[dict[str, Any]]]:
        if self.config.resume == "auto":
            refuse_other_unfinished(root, directory, self.content)
        processes = processes_here(self.config)
        if processes * self.config.hosts > 1:
            from nqcast.runs.launched import train_launched

            history = train_launched(self, directory, processes)
        else:
            history = self.train_here(directory, follower=follower)
        best = CheckpointStore(directory, self.config.top_k).best_verified()
        if best is None:
            raise RuntimeError(f"training left no whole checkpoint in {directory}: see the log above for its reason")
        return self._artifact(best), history

    def train_here(self, directory: Path, ranks: Ranks | None = None, follower: Any = None) -> list[dict[str, Any]]:
        """Train in `directory`, in this process, alone or as one of several ranks; returns the history.

        `follower` is the Trainer's logger.

        Raises RunStopped or TrainingInterruptedError like `train`.
        """
        parts = self._start(), self.config, self._data_module(), directory
        trainer = create_trainer(*parts, logger=follower, ranks=ranks)
        trainer.origin = self.origin
        trainer.reference_losses["constants"] = self._constant_losses()
        logger.info("run directory %s; %s", directory, trainer.model.summary())
        card = carded(directory, self.content) if trainer.writes else nullcontext()
        with finishing(trainer.request_stop), card:
            history = trainer.train()
            leave_if_asked()
            if trainer.status == "stopped":
                raise TrainingInterruptedError(f"training in {directory} was asked to stop; the same run goes on there")
        return history

    def _start(self) -> MIGT_TVDT:
        """The network before its first step; base quantiles and feature moments are set from the anchors afterwards."""
        if self.warm_start is None:
            return fuse(MIGT_TVDT(self.model, seed=self.config.seed))
        earlier = ModelConfig(**self.warm_start.metadata.model)
        if earlier != self.model:
            raise ValueError(
                f"expected a warm start from a checkpoint of the same model, found {earlier} for {self.model}: "
                "start from one with the same model.* parameters, or cold"
            )
        return load_model(self.warm_start)

    def _data_module(self) -> NQDataModule:
        loader = LoaderConfig(
            context=self.model.context,
            seed=self.config.seed,
            windows_per_epoch=self.config.windows_per_epoch,
            volatility=bool(self.model.n_volatility),
            device=str(pick_device(self.config.device)),
        )
        scale = scale_from_state(self.scale["arrays"], self.scale["scalars"])
        return NQDataModule.from_frames(self.features, self.splits, scale, self.config.batch_size, loader)

    def _constant_losses(self) -> dict[str, float]:
        """Validation loss of constant train quantiles per horizon, against which the Trainer states skill."""
        levels, horizons = self.config.quantiles, tuple(HORIZONS)
        train, validation = positions(self.splits, "train"), positions(self.splits, "validation")
        constants = make_baseline("constants", levels, horizons).fit(self.features, train)
        quantiles = constants.predict(self.features, validation)
        losses = mean_pinball(quantiles, targets_at(self.features, validation, horizons), levels)
        return dict(zip(horizons, map(float, losses), strict=True))

    @property
    def origin(self) -> Checkpoint:
        """What every checkpoint of the run holds beside the network's weights: the scale, and what all is made of."""
        metadata = Metadata(
            fingerprint=self.fingerprint,
            data=self.data_card,
            model=self.model.model_dump(mode="json"),
            train=self.config.model_dump(mode="json"),
            scale=self.scale["scalars"],
            features=tuple(feature_names(self.features)),
            horizons=tuple(HORIZONS),
            quantiles=tuple(self.config.quantiles),
            version=__version__,
        )
        return Checkpoint({f"scale.{name}": array for name, array in self.scale["arrays"].items()}, metadata)

    def _artifact(self, folder: Path) -> Checkpoint:
        """The weights of a working checkpoint with this run's scale; an earlier version's has none of its own."""
        working, origin = read_checkpoint(folder), self.origin
        weights = {f"model.{name}": array for name, array in working.part("model").items()}
        assert working.training is not None
        progress = working.training.state["progress"]
        metadata = replace(origin.metadata, epoch=progress["epoch"], metrics=progress["history"][-1])
        return Checkpoint(weights | origin.tensors, metadata)

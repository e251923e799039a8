"""What of a run lives on in its checkpoints, and what must be the same where it goes on from one."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.storage.checkpoint import Checkpoint, CheckpointError, Tensors, TrainingState
from nqcast.storage.json_values import Json, finite
from nqcast.training.config import FREE_ON_RESUME, TrainConfig
from nqcast.training.device import Precision
from nqcast.training.scheduler import EarlyStopping, WarmupCosineScheduler
from nqcast.training.step import Stepper


@dataclass
class Progress:
    """Where a run stands. `epoch` counts whole epochs, `batch` micro-batches of the next one, `step` optimiser steps.

    A step whose gradient was not finite counts too: it has used up its data.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    micro_batches: int = 0
    skipped: int = 0
    skipped_in_row: int = 0
    loss_sum: float = 0.0
    loss_count: float = 0.0
    history: list[Json] = field(default_factory=list)


def as_arrays(tensors: dict[str, Tensor], prefix: str) -> Tensors:
    """Tensors as they are written: NumPy arrays named "<prefix>.…"."""
    return {f"{prefix}.{name}": tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def as_tensors(arrays: Tensors, prefix: str) -> dict[str, Tensor]:
    """The inverse of `as_arrays`, on the CPU, of the arrays with this prefix."""
    start = f"{prefix}."
    return {k.removeprefix(start): torch.from_numpy(np.array(v)) for k, v in arrays.items() if k.startswith(start)}


def pack_optimizer(optimizer: Optimizer) -> tuple[dict[str, Tensor], list[Json]]:
    """Split an optimiser's state into tensors named "index.key" and JSON-able parameter groups."""
    state = optimizer.state_dict()
    tensors = {
        f"{index}.{key}": torch.as_tensor(value)
        for index, values in state["state"].items()
        for key, value in values.items()
    }
    return tensors, state["param_groups"]


def unpack_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], groups: list[Json]) -> None:
    """Undo `pack_optimizer`; raises CheckpointError when the parameter groups have other sizes."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = tensor
    restored = [{**group, "betas": tuple(group["betas"])} if "betas" in group else dict(group) for group in groups]
    try:
        optimizer.load_state_dict({"state": state, "param_groups": restored})
    except ValueError as error:
        raise CheckpointError(f"expected the optimiser state of this model, found another's ({error})") from error


def pack_rng() -> dict[str, Tensor]:
    """Generator states of the CPU and of each CUDA device."""
    states = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        states |= {f"cuda.{i}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def unpack_rng(tensors: dict[str, Tensor]) -> None:
    """Set the generators that exist here; CUDA states saved on a machine with more devices are left alone."""
    torch.set_rng_state(tensors["cpu"])
    for i in range(torch.cuda.device_count()):
        if f"cuda.{i}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda.{i}"], i)


def load_weights(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load weights strictly; raises CheckpointError that lists missing, unknown and differently shaped tensors."""
    differences = weight_differences(model, {name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if differences:
        shown = "; ".join(differences[:8]) + (f"; and {len(differences) - 8} more" if len(differences) > 8 else "")
        raise CheckpointError(
            f"expected a checkpoint of this architecture, found differences: {shown}; set the model's configuration "
            "to the checkpoint's or start a new run"
        )
    model.load_state_dict(tensors)


def weight_differences(model: nn.Module, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """What is missing, unknown or of another shape among weights of these names and shapes, one clause each."""
    own = model.state_dict()
    differences = [f"missing {name}" for name in own if name not in shapes]
    differences += [f"unknown {name}" for name in shapes if name not in own]
    return differences + [
        f"{name} is {shapes[name]} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in shapes and shapes[name] != tuple(tensor.shape)
    ]


def differing_keys(saved: Mapping[str, object], present: Mapping[str, object], free: frozenset[str]) -> list[str]:
    """Keys whose values differ, as "key: saved … now …"; `free` ones are allowed to."""
    names = sorted((saved.keys() | present.keys()) - free)
    return [
        f"{name}: saved {saved.get(name)!r}, now {present.get(name)!r}"
        for name in names
        if saved.get(name) != present.get(name)
    ]


log = logging.getLogger(__name__)


class RunState:
    """Weights, optimiser, schedule, counters, history and generators of a run, to and from a checkpoint."""

    def __init__(
        self,
        config: TrainConfig,
        model: nn.Module,
        precision: Precision,
        optimizer: Optimizer,
        scheduler: WarmupCosineScheduler,
        early_stopping: EarlyStopping,
        stepper: Stepper,
    ) -> None:
        self.config, self.model, self.precision = config, model, precision
        self.optimizer, self.scheduler = optimizer, scheduler
        self.early_stopping, self.stepper = early_stopping, stepper
        self.progress = Progress()

    def checkpoint(self, origin: Checkpoint, val_loss: float | None, metrics_bytes: int) -> Checkpoint:
        """The present state beside what `origin` says of the run; `metrics_bytes` is the length of its metrics file."""
        moments, groups = pack_optimizer(self.optimizer)
        loop = {
            "progress": asdict(self.progress),
            "val_loss": val_loss,
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.stepper.scaler.state_dict(),
            "splits": self.stepper.pieces,
            "early_stopping": self.early_stopping.state_dict(),
            "optimizer_groups": groups,
            "metrics_bytes": metrics_bytes,
            "torch": torch.__version__,
            "operations": self._operations(),
        }
        known, history = origin.metadata, self.progress.history
        metadata = replace(
            known,
            model=known.model or self._model_config(),
            train=known.train or self.config.model_dump(mode="json"),
            epoch=self.progress.epoch,
            metrics=history[-1] if history else {},
        )
        training = TrainingState(as_arrays(moments, "optimizer") | as_arrays(pack_rng(), "rng"), finite(loop))
        return Checkpoint(origin.tensors | as_arrays(self.model.state_dict(), "model"), metadata, training)

    def restore(self, content: Checkpoint) -> Json:
        """Take over a checkpoint's state; returns that of its loop.

        Raises:
            CheckpointError: it is another architecture's, or has nothing from which training could go on.
        """
        if content.training is None:
            raise CheckpointError(
                "expected a working checkpoint, found weights alone: take one from a run directory, or start a run "
                "warm from this one"
            )
        state = content.training.state
        load_weights(self.model, as_tensors(content.tensors, "model"))
        moments = as_tensors(content.training.tensors, "optimizer")
        unpack_optimizer(self.optimizer, moments, state["optimizer_groups"])
        unpack_rng(as_tensors(content.training.tensors, "rng"))
        self.scheduler.load_state_dict(state["scheduler"])
        self.stepper.scaler.load_state_dict(state["scaler"])
        self.stepper.pieces = state.get("splits", 1)
        self.early_stopping.load_state_dict(state["early_stopping"])
        self.progress = Progress(**state["progress"])
        self._compare_operations(state.get("operations"))
        return state

    def require_same_configuration(self, content: Checkpoint, directory: Path) -> None:
        """Raise CheckpointError, naming every difference, where a checkpoint's settings would compute other steps."""
        saved = {**content.metadata.train, "model": self._shaping(content.metadata.model)}
        present = {**self.config.model_dump(mode="json"), "model": self._shaping(self._model_config())}
        differences = differing_keys(saved, present, FREE_ON_RESUME)
        if differences:
            raise CheckpointError(
                f"expected {directory} to hold a run of this configuration, found differences: "
                f"{'; '.join(differences)}; set them back, choose another directory, or set train.resume=never"
            )

    def _model_config(self) -> Json:
        """The model's configuration as JSON values; empty for a model that has none."""
        config: Any = getattr(self.model, "config", None)
        return dict(config.model_dump(mode="json")) if hasattr(config, "model_dump") else {}

    def _shaping(self, model: Json) -> Json:
        """The fields of a model's configuration that change what is learnt."""
        free = set(getattr(getattr(self.model, "config", None), "without_effect", ()))
        return {name: value for name, value in model.items() if name not in free}

    def _operations(self) -> list[str]:
        """Operations other than torch's by which the model computes, where it says so; numbers depend on them."""
        named = vars(self.model).get("operations")
        if named is None or self.precision.device.type != "cpu":
            return []
        with self.precision.autocast():
            return list(named())

    def _compare_operations(self, before: list[str] | None) -> None:
        """Say where the rest of a run will not have the digits that it would have had."""
        now = self._operations()
        if before is not None and before != now:
            by = ["fused operations" if names else "torch's own operations" for names in (before, now)]
            log.warning(
                "the run so far was computed by %s, the rest is by %s%s: its figures will differ in their last digits "
                "from those of a run without a stop",
                *(*by, " of another build" if by[0] == by[1] else ""),
            )

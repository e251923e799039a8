"""What a checkpoint holds beside the weights, as plain tensors and JSON."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.storage.checkpoint import CheckpointError, Json, Tensors


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

    def to_json(self) -> Json:
        """All fields as JSON values."""
        return asdict(self)


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

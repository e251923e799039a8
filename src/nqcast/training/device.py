"""Device and arithmetic of a run."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from nqcast.training.host_memory import keep_freed_memory

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The named device; "auto" means cuda, then mps, then cpu. Raises ValueError when the named one is missing.

    Choosing the CPU settles how its memory is kept (`host_memory`).
    """
    device = _find_device(name)
    if device.type == "cpu":
        keep_freed_memory()
    return device


def _find_device(name: str | torch.device) -> torch.device:
    if str(name) == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(
            f"expected a device such as auto, cpu, cuda, cuda:0 or mps, found {name!r}; choose one"
        ) from error
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not present.get(device.type, True):
        raise ValueError(f"expected device {name} to be present, found none; set train.device to auto or cpu")
    return device


@dataclass(frozen=True)
class Precision:
    """Arithmetic of the forward pass; weights, losses and updates stay in float32."""

    name: str
    device: torch.device

    def autocast(self) -> torch.autocast:
        """Context of the forward pass (a no-op in fp32)."""
        return torch.autocast(
            self.device.type, dtype=_DTYPES.get(self.name, torch.bfloat16), enabled=self.name != "fp32"
        )

    def scaler(self) -> torch.amp.GradScaler:
        """Loss scaler, passive except in fp16, so that the step has no branches."""
        return torch.amp.GradScaler(self.device.type, enabled=self.name == "fp16")


def pick_precision(name: str, device: torch.device) -> Precision:
    """Resolve "auto": bf16 on a GPU that has it, fp32 elsewhere. Raises ValueError for fp16 off CUDA."""
    if name == "auto":
        name = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise ValueError(f"expected a CUDA device for fp16, found {device.type}; set train.precision to auto or fp32")
    return Precision(name, device)


@contextmanager
def deterministic_kernels(enabled: bool) -> Iterator[None]:
    """Within this block torch takes only kernels that give the same bits every time, and raises where it has none.

    To be entered before the first CUDA call: cuBLAS reads its workspace setting once.
    """
    before = torch.are_deterministic_algorithms_enabled()
    if enabled:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def describe(device: torch.device, precision: Precision, model: torch.nn.Module) -> str:
    """One line for the log: device, precision and parameters."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"device {device} ({name}), precision {precision.name}, {parameters:,} parameters"


def to_device(batch: dict[str, Any], device: torch.device) -> dict[str, Any]:
    """Move a batch's tensors (one level of nesting); free when they already are there."""
    moved: dict[str, Any] = {}
    for name, value in batch.items():
        if isinstance(value, dict):
            moved[name] = to_device(value, device)
        else:
            moved[name] = value.to(device, non_blocking=True) if isinstance(value, torch.Tensor) else value
    return moved

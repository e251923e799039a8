"""Where a run computes: its device, arithmetic, kernels, memory on a CPU, and what torch.compile makes faster."""

import ctypes
import logging
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

NONE, DEFAULT, GRAPHS = "none", "default", "reduce-overhead"  # ways of torch.compile
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
_LARGEST_MMAP_THRESHOLD = 32 * 2**20  # bytes; glibc takes no more
_NEVER_TRIM = 2**31 - 1


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """The named device; "auto" means cuda, then mps, then cpu. Raises ValueError when the named one is missing.

    Choosing the CPU settles how its memory is kept (`keep_freed_memory`).
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


def describe(device: torch.device, precision: Precision, model: nn.Module) -> str:
    """One line for the log: device, precision and parameters."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return f"device {device} ({name}), precision {precision.name}, {parameters:,} parameters"


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks instead of handing them back to the kernel; False where there is no glibc.

    Where kernels are not fused, activations of some megabytes are otherwise mapped and unmapped in every step, and the
    page faults cost a third of a training step and more of a forecast. No number changes; the process keeps its peak
    of such memory.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(
        libc.mallopt(_M_MMAP_THRESHOLD, _LARGEST_MMAP_THRESHOLD) and libc.mallopt(_M_TRIM_THRESHOLD, _NEVER_TRIM)
    )


def compile_regions(model: nn.Module, mode: str, device: torch.device) -> bool:
    """Compile, in place, the parts that `model.regions()` lists; the whole model where it lists none.

    Equal parts are compiled once, shapes are static, weights keep their names.

    "reduce-overhead" also replays CUDA graphs on a GPU; elsewhere it is "default". Returns False, after one warning,
    where nothing can be compiled here.
    """
    if mode == NONE:
        return False
    reason = _obstacle(device)
    if reason:
        log.warning("train.compile=%s is left out, training goes on without it: %s", mode, reason)
        return False
    graphs = mode == GRAPHS and device.type == "cuda"
    for region in _regions(model):
        region.compile(dynamic=False, mode=GRAPHS if graphs else None)
    if graphs:  # outputs of the last replay may be overwritten from here on
        model.register_forward_pre_hook(lambda *_: torch.compiler.cudagraph_mark_step_begin())
    return True


def _regions(model: nn.Module) -> list[nn.Module]:
    listed = getattr(model, "regions", None)
    return list(listed()) if callable(listed) else [model]


def _obstacle(device: torch.device) -> str:
    """Why nothing can be compiled here; empty where a small function was compiled and ran."""
    compilers = [os.environ.get("CXX", "g++"), "g++", "clang++"]
    if not any(map(shutil.which, compilers)):
        return "no C++ compiler (g++ or clang++) is installed, or CXX does not name one"
    try:
        torch.compile(_probe, dynamic=False)(torch.ones(8, device=device))
    except Exception as error:  # whatever the compiler's parts raise: the run can go on without them
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        return f"{type(error).__name__}: {' '.join(lines[:2])}"
    return ""


def _probe(x: Tensor) -> Tensor:
    return torch.tanh(x) + 1.0

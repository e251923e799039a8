"""torch.compile, region by region: equal blocks are compiled once, shapes are static, weights keep their names."""

import logging
import os
import shutil

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

NONE, DEFAULT, GRAPHS = "none", "default", "reduce-overhead"


def compile_regions(model: nn.Module, mode: str, device: torch.device) -> bool:
    """Compile the parts that `model.regions()` lists, in place; the whole model where it lists none.

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

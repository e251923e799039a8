"""Fused operations put into a model from outside, as `compile_regions` puts compiled ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import nn

from nqcast.model.fused.encoder import TimeStage, VariablesStage
from nqcast.model.fused.window_norm import NormStage
from nqcast.model.migt_tvdt import MIGT_TVDT

Place = tuple[nn.Module, str]  # a module, and the method in whose stead a stage is called


def fuse(model: MIGT_TVDT) -> MIGT_TVDT:
    """Let the model's stages run as fused operations on a CPU, as far as its `kernels` allow; returns the model.

    Weights, their names and the function stay, up to rounding. Windows with pads, inputs that need a gradient, other
    devices and precisions, and recorders such as torch.export still meet torch's operations.

    Raises:
        ValueError: `kernels=fused` cannot be had on this machine, or not for these sizes.
    """
    c = model.config
    if c.kernels == "plain":
        return model
    stages: dict[Place, NormStage | TimeStage | VariablesStage]
    stages = {(model.norm, "forward"): NormStage(model.norm, max(c.recent_bars), c.kernels == "fused")}
    if c.tokens:
        stages |= {(model, "through_time"): TimeStage(model), (model, "through_variables"): VariablesStage(model)}
    for (module, name), stage in stages.items():
        if c.kernels == "fused":
            stage.operation()
        setattr(module, name, stage)
    vars(model)["operations"] = partial(operations, model)  # by which a Trainer knows of them
    return model


def operations(model: MIGT_TVDT) -> list[str]:
    """Which fused operations a model takes under the present autocast; two runs agree to the last digit by equal ones.

    Each name tells of code, sizes, compiler and processor. Empty where torch's own operations do everything.
    """
    found = [vars(module)[name].operation() for module, name in _places(model) if name in vars(module)]
    return sorted(operation.library.key for operation in found if operation is not None)


@contextmanager
def unfused(model: MIGT_TVDT) -> Iterator[None]:
    """Within this block every module of the model is called, as hooks want it."""
    taken = [(module, name, vars(module).pop(name)) for module, name in _places(model) if name in vars(module)]
    try:
        yield
    finally:
        for module, name, stage in taken:
            setattr(module, name, stage)


def _places(model: MIGT_TVDT) -> list[Place]:
    return [(model.norm, "forward"), (model, "through_time"), (model, "through_variables")]

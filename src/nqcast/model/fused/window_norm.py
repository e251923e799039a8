"""Normalisation of windows as one operation on a CPU: `window_norm.cpp`.

Shapes: B batch · T bars · F variables.
"""

import ctypes
import functools
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from nqcast.model.embedding import Normalised, WindowNorm
from nqcast.model.fused.native_code import CannotBuildError, build

SOURCE = Path(__file__).with_suffix(".cpp")

Operation = TypeVar("Operation")


def address(tensor: Tensor | None) -> ctypes.c_void_p:
    """Where a contiguous tensor's numbers begin, null for None; the tensor must outlive the call that gets it."""
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def may_take(data: Tensor, weight: Tensor) -> bool:
    """Whether a fused operation may compute with this input: on a CPU, in single precision, recorded by nobody."""
    # a tensor of another class stands for one whose operations somebody records, as torch.export does
    recorded = torch.compiler.is_compiling() or type(data) is not Tensor
    return data.device.type == "cpu" and weight.dtype == torch.float32 and not recorded


def wanted(found: Operation | CannotBuildError, required: bool) -> Operation | None:
    """The fused operation, or None; raises ValueError for none where it is `required` by model.kernels=fused."""
    if not isinstance(found, CannotBuildError):
        return found
    if required:
        raise ValueError(f"expected model.kernels=fused to be possible, found that {found}; set it to auto")
    return None


class FusedWindowNorm:
    """`WindowNorm` for float32 windows of `n_features` variables without pads and without gradients.

    Raises CannotBuildError where there is no compiler, or what it makes gives other numbers than torch's operations.
    """

    def __init__(self, n_features: int) -> None:
        self.library = build(SOURCE, {"VARIABLES": n_features})
        self._prove(n_features)

    def __call__(self, norm: WindowNorm, features_BTF: Tensor, newest: int, with_window: bool) -> Normalised:
        """Levels of the `newest` bars alone, and the normalised window only where it is wanted."""
        features_BTF = features_BTF.contiguous()
        b, t, f = features_BTF.shape
        rows_BFT = features_BTF.new_empty(b, f, t) if with_window else None
        mean_BF, log_std_BF = features_BTF.new_empty(2, b, f).unbind()
        self.library.normalise(
            *map(address, (features_BTF, norm.feature_mean_F, norm.feature_std_F)),
            *(ctypes.c_float(norm.eps), ctypes.c_long(b), ctypes.c_long(t), ctypes.c_int(torch.get_num_threads())),
            *map(address, (rows_BFT, mean_BF, log_std_BF)),
        )
        return Normalised(norm.level(features_BTF[:, t - newest :]), mean_BF, log_std_BF, rows_BFT)

    @torch.no_grad()
    def _prove(self, n_features: int) -> None:
        norm = WindowNorm(n_features, 1e-3)
        features_BTF = torch.randn(2, 9, n_features, generator=torch.Generator().manual_seed(0))
        expected, found = norm(features_BTF, None), self(norm, features_BTF, 9, True)
        for one, other in zip(found, expected, strict=True):
            if one is None or other is None or not torch.allclose(one, other, rtol=1e-3, atol=1e-4):
                raise CannotBuildError(f"{SOURCE.name} gives other numbers than torch's operations here")


@functools.cache
def fused_window_norm(n_features: int) -> FusedWindowNorm | CannotBuildError:
    """The operation, or why there is none; found out once per process."""
    try:
        return FusedWindowNorm(n_features)
    except CannotBuildError as error:
        return error


class NormStage:
    """`WindowNorm.forward` of a fused model, by torch's operations where the fused one may not be taken."""

    def __init__(self, norm: WindowNorm, newest: int, required: bool) -> None:
        self.norm, self.newest, self.required = norm, newest, required

    def __call__(self, features_BTF: Tensor, valid_BT: Tensor | None, with_window: bool = True) -> Normalised:
        constant = features_BTF.dtype == torch.float32 and not features_BTF.requires_grad
        if constant and valid_BT is None and may_take(features_BTF, self.norm.feature_mean_F):
            operation = self.operation()
            if operation is not None:
                return operation(self.norm, features_BTF, self.newest, with_window)
        return WindowNorm.forward(self.norm, features_BTF, valid_BT, with_window)

    def operation(self) -> FusedWindowNorm | None:
        return wanted(fused_window_norm(len(self.norm.feature_mean_F)), self.required)

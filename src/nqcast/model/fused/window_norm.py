"""Normalisation of windows as one operation on a CPU: `window_norm.cpp`.

Shapes: B batch · T bars · F variables.
"""

from __future__ import annotations

import ctypes
import functools
from pathlib import Path

import torch
from torch import Tensor

from nqcast.model.embedding import Normalised, WindowNorm
from nqcast.model.fused.native_code import Address, CannotBuildError, build

SOURCE = Path(__file__).with_suffix(".cpp")


class FusedWindowNorm:
    """`WindowNorm` for float32 windows of `n_features` variables without pads and without gradients.

    Raises CannotBuildError where there is no compiler.
    """

    def __init__(self, n_features: int) -> None:
        self.library = build(SOURCE, {"VARIABLES": n_features})

    def __call__(self, norm: WindowNorm, features_BTF: Tensor, newest: int, with_window: bool) -> Normalised:
        """Levels of the `newest` bars alone, and the normalised window only where it is wanted."""
        features_BTF = features_BTF.contiguous()
        b, t, f = features_BTF.shape
        rows_BFT = features_BTF.new_empty(b, f, t) if with_window else None
        mean_BF, log_std_BF = features_BTF.new_empty(2, b, f).unbind()
        self.library.normalise(
            *map(Address, (features_BTF, norm.feature_mean_F, norm.feature_std_F)),
            *(ctypes.c_float(norm.eps), ctypes.c_long(b), ctypes.c_long(t), ctypes.c_int(torch.get_num_threads())),
            *map(Address, (rows_BFT, mean_BF, log_std_BF)),
        )
        return Normalised(norm.level(features_BTF[:, t - newest :]), mean_BF, log_std_BF, rows_BFT)


@functools.cache
def fused_window_norm(n_features: int) -> FusedWindowNorm | CannotBuildError:
    """The operation, or why there is none; found out once per process."""
    try:
        return FusedWindowNorm(n_features)
    except CannotBuildError as error:
        return error

"""MIGT_TVDT: attention over time, then over variables, with heads that correct the quantiles of a volatility scale."""

from importlib import import_module
from typing import Any

_HOME = {
    "ModelConfig": "nqcast.model.config",
    "MIGT_TVDT": "nqcast.model.migt_tvdt",
}
__all__ = ["MIGT_TVDT", "ModelConfig"]


def __getattr__(name: str) -> Any:
    """Import the module that defines `name` on first use, so that reading a configuration costs no torch import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

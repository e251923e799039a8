"""Experiments: one training run from tables to checkpoint, and what repeats it (folds of a walk-forward, ablations)."""

from __future__ import annotations

import importlib

_HOME = {"TrainingRun": "training_run"}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562): a configuration costs no torch import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

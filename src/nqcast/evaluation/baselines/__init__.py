"""Baselines: what a forecast has to beat, fitted on the same train anchors and scored on the same test anchors.

A baseline is a subclass of `base.Baseline`; `nqcast.evaluation.config.BASELINES` names each, and the profiles are
lists of those names.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from nqcast.evaluation.baselines.base import Baseline
from nqcast.evaluation.config import BASELINES


def make_baseline(name: str, levels: Sequence[float], horizons: Sequence[str], seed: int = 0) -> Baseline:
    """An unfitted baseline by its name; ValueError for an unknown one."""
    if name not in BASELINES:
        raise ValueError(f"expected the name of a baseline, found {name!r}: known are {', '.join(BASELINES)}")
    module, kind = BASELINES[name].split(".")
    baseline = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    assert issubclass(baseline, Baseline)
    return baseline(levels, horizons, seed)


def make_baselines(
    names: Sequence[str], levels: Sequence[float], horizons: Sequence[str], seed: int = 0
) -> dict[str, Baseline]:
    """Unfitted baselines by name, in the order asked for."""
    return {name: make_baseline(name, levels, horizons, seed) for name in names}

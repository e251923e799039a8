"""Figures of the evaluation: every function returns a matplotlib Figure and writes nothing.

Colours are those of Okabe and Ito, told apart by the colour-blind and in grey; no figure relies on colour alone.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "fan_chart": "fan",
    "reliability_diagram": "calibration",
    "pit_histogram": "calibration",
    "coverage_over_time": "calibration",
    "skill_by_horizon": "skill",
    "pinball_by_time_of_day": "skill",
    "training_curves": "training",
    "scale_against_realised": "scale",
    "importance_by_feature": "inside",
    "variables_inside": "inside",
    "attention_over_time": "inside",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)

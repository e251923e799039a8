"""What a forecast is worth: predictions, metrics, baselines, significance, calibration, figures and the report."""

from __future__ import annotations

import importlib

_HOME = {
    "EvaluateConfig": "config",
    "named_metrics": "metrics",
    "make_baselines": "baselines",
    "predict_frame": "predict",
    "predictions_frame": "forecasts",
    "score_table": "scores",
    "render_scores": "scores",
    "ConformalCalibration": "calibration",
    "OnlineCalibration": "calibration",
    "fan_chart": "figures",
    "render_report": "report",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name from its module on first use (PEP 562), so that the package costs nothing to import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

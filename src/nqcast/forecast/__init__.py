"""Forecasts from now: the newest bars and a checkpoint in, quantiles of returns and prices out.

Names are loaded on first use, so that `nqcast.forecast.config` can be imported without torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "ForecastConfig": "config",
    "ForecastRefusedError": "freshness",
    "Forecaster": "forecaster",
    "load": "loading",
    "draw_forecast": "chart",
    "forecast_page": "page",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

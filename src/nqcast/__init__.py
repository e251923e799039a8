"""nqcast: calibrated quantile forecasts of NASDAQ-100 futures returns.

`nqcast.load("data/06_models/checkpoint").forecast(bars)` forecasts from the newest bars on.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`load`, imported on first use: `import nqcast` alone loads nothing else."""
    if name == "load":
        return import_module("nqcast.forecast.loading").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

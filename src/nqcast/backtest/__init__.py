"""What trading on the forecasts would have earned: no look-ahead, no overlap, costs paid, and how sure it is.

Names are loaded on first use, so that `nqcast.backtest.config` can be imported without matplotlib.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "BacktestConfig": "config",
    "Timeline": "timeline",
    "Trades": "trades",
    "backtest": "run",
    "draw_equity": "figure",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

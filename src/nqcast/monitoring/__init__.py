"""Whether the newest bars and outcomes are still those of training: feature drift, coverage, skill.

Names are loaded on first use, so that `nqcast.monitoring.config` can be imported without torch.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "MonitorConfig": "config",
    "monitor": "compare",
    "draw_monitor": "figure",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

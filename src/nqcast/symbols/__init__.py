"""Many symbols: the road from a vendor's file to a feature table, once per symbol and side by side.

Names are loaded on first use, so that `nqcast.symbols.config` can be imported without pandas.
"""

from importlib import import_module
from typing import Any

_HOME = {
    "PartitionsConfig": "config",
    "SymbolTask": "build",
    "SymbolFeatures": "build",
    "build_symbol": "build",
    "tasks_of": "build",
    "run_all": "schedule",
}
__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)

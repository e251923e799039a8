"""Many symbols: the road from a vendor's file to a feature table, once per symbol and side by side.

Names are loaded on first use, so that `nqcast.symbols.config` can be imported without pandas.
"""

from nqcast.lazy import lazily

_HOME = {
    "PartitionsConfig": "config",
    "SymbolTask": "build",
    "SymbolFeatures": "build",
    "build_symbol": "build",
    "tasks_of": "build",
    "run_all": "schedule",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)

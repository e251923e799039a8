"""What a bar is: vendor files, sessions, the 5-minute grid and the joined contract series."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_EXPORTS = {
    "IngestConfig": "nqcast.market.config",
    "Ingested": "nqcast.market.ingest",
    "build_bars": "nqcast.market.ingest",
    "check_raw_bars": "nqcast.market.schema",
    "read_bars": "nqcast.market.vendor",
    "trading_sessions": "nqcast.market.calendar",
}
__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)

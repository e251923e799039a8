"""Libraries that only the full profile needs."""

from __future__ import annotations

import importlib
from typing import Any


def optional_library(name: str, baseline: str) -> Any:
    """The library's module; ImportError that says how to get it, or to do without, where it is not installed."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"expected the library {name.split('.')[0]} for the baseline {baseline!r}, found it not installed: "
            "pip install 'nqcast[baselines]', or leave the baseline out (evaluate.baselines=quick)"
        ) from error

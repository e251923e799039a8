"""Tables beside the code, each read once: how vendors spell things, hours of sessions, instruments."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import yaml


@cache
def read_table(name: str) -> dict[str, Any]:
    """What stands in a file of this folder, such as spellings.yml."""
    return dict(yaml.safe_load(files("nqcast.market").joinpath(f"{name}.yml").read_text(encoding="utf-8")))


_SPELLINGS = read_table("spellings")
COLUMNS: dict[str, list[str]] = _SPELLINGS["columns"]
DATE, TIME, IDENTITY = (_SPELLINGS[name] for name in ("date", "time", "identity"))
SUMMED_VOLUME: list[tuple[str, str]] = _SPELLINGS["summed_volume"]
HEADERLESS: dict[str, list[str]] = _SPELLINGS["headerless"]
REORDERED: dict[str, str] = _SPELLINGS["reordered"]
NOTHING: list[str] = _SPELLINGS["nothing"]
ZONES: dict[str, str] = _SPELLINGS["zones"]
USUAL_ZONES: list[str] = _SPELLINGS["usual_zones"]
PRODUCTS = {str(product) for product in _SPELLINGS["products"]}
NAMES: dict[str, list[str]] = _SPELLINGS["names"]
VENUES, KINDS = ("|".join(_SPELLINGS[name]) for name in ("venues", "kinds"))
LEVELS: dict[str, tuple[float, float]] = {product: tuple(span) for product, span in _SPELLINGS["levels"].items()}

"""How vendors spell columns, zones and symbols: tables (spellings.yml), no rules."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

_TABLE: dict[str, Any] = yaml.safe_load(files("nqcast.market").joinpath("spellings.yml").read_text(encoding="utf-8"))
COLUMNS: dict[str, list[str]] = _TABLE["columns"]
DATE, TIME = _TABLE["date"], _TABLE["time"]
SUMMED_VOLUME: list[tuple[str, str]] = _TABLE["summed_volume"]
HEADERLESS: dict[str, list[str]] = _TABLE["headerless"]
REORDERED: dict[str, str] = _TABLE["reordered"]
NOTHING: list[str] = _TABLE["nothing"]
ZONES: dict[str, str] = _TABLE["zones"]
USUAL_ZONES: list[str] = _TABLE["usual_zones"]
PRODUCTS = {str(product) for product in _TABLE["products"]}
VENUES, KINDS = ("|".join(_TABLE[name]) for name in ("venues", "kinds"))
LEVELS: dict[str, tuple[float, float]] = {product: tuple(span) for product, span in _TABLE["levels"].items()}

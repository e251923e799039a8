"""Writes the tables of parameters from their models while the site is built: `{{ parameters }}` in a page.

The README's sizes of the network are checked against the models by tests/docs/test_parameter_tables.py.
"""

from __future__ import annotations

import functools
import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

from nqcast.parameters import Parameters, with_defaults
from nqcast.settings import CONFIG_LOADER_ARGS, CONFIG_LOADER_CLASS

MARK = "{{ parameters }}"
ENVIRONMENTS = ("base", "nq", "test")
_CONF = Path(__file__).resolve().parents[2] / "conf"
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
_HEAD = ["| parameter | in force | allowed | what it is |", "|---|---|---|---|"]


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables (called by mkdocs for every page)."""
    return markdown.replace(MARK, parameter_tables()) if MARK in markdown else markdown


@functools.cache
def in_force(environment: str) -> dict[str, Any]:
    """Every parameter as a run of that environment has it, none of the user's own files read."""
    settings: dict[str, Any] = {**CONFIG_LOADER_ARGS, "default_run_env": "base"}
    return with_defaults(CONFIG_LOADER_CLASS(str(_CONF), env=environment, **settings)["parameters"])


def parameter_tables() -> str:
    """One table per group, one row per parameter: values in force, allowed values, sentence."""
    top: list[str] = []
    groups: list[str] = []
    for name, field in Parameters.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lead = (field.annotation.__doc__ or "").strip().split("\n")[0]
            given = in_force("base")[name]  # without what a run itself sets
            rows = [_row((name, one), of) for one, of in field.annotation.model_fields.items() if one in given]
            groups += [f"\n## {name}\n", f"{lead}\n", *_HEAD, *rows]
        else:
            top.append(_row((name,), field))
    return "\n".join(["\n## At the top level\n", *_HEAD, *top, *groups])


def _row(path: tuple[str, ...], field: Any) -> str:
    cells = [f"`{path[-1]}`", _values(path), allowed(field.annotation, field.metadata), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _values(path: tuple[str, ...]) -> str:
    """The value of conf/base, and those of the other environments where they differ."""
    found = [_plain(functools.reduce(lambda part, name: part[name], path, in_force(env))) for env in ENVIRONMENTS]
    others = [f"{env} `{value}`" for env, value in zip(ENVIRONMENTS[1:], found[1:], strict=True) if value != found[0]]
    return "; ".join([f"`{found[0]}`", *others])


def allowed(annotation: Any, metadata: list[Any]) -> str:
    """What a parameter takes, in words: its choices, or its kind and bounds."""
    limits = [f"{sign} {value:g}" for m in metadata for key, sign in _BOUNDS.items()
              if isinstance(value := getattr(m, key, None), int | float)]  # fmt: skip
    return ", ".join([_kind(annotation), *limits])


def _kind(annotation: Any) -> str:
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(_kind(one) for one in inner)
    if origin in (tuple, list):
        return f"list of {_kind(inner[0])}"
    if origin is dict or (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return "table"
    names = {bool: "`true`, `false`", int: "whole number", float: "number", str: "text", type(None): "`null`"}
    return names.get(annotation, "date" if getattr(annotation, "__name__", "") == "date" else "value")


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        text = f"[{', '.join(_plain(one) for one in value)}]"
    elif isinstance(value, dict):
        text = f"table of {len(value)}" if value else "{}"
    else:
        text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"

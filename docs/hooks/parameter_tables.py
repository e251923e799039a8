"""Writes the tables of parameters from their models while the site is built: `{{ parameters }}` in a page."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from nqcast.parameters import Parameters

MARK = "{{ parameters }}"
_BOUNDS = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}


def on_page_markdown(markdown: str, **_: Any) -> str:
    """The page with its tables (called by mkdocs for every page)."""
    return markdown.replace(MARK, parameter_tables()) if MARK in markdown else markdown


def parameter_tables() -> str:
    """One table per group, one row per parameter: default, bounds, sentence."""
    top: list[str] = []
    groups: list[str] = []
    for name, field in Parameters.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            lead = (field.annotation.__doc__ or "").strip().split("\n")[0]
            groups += [f"\n## {name}\n", f"{lead}\n", *_HEAD, *_rows(field.annotation)]
        else:
            top.append(_row(name, field))
    return "\n".join(["\n## At the top level\n", *_HEAD, *top, *groups])


_HEAD = ["| parameter | default | bounds | what it is |", "|---|---|---|---|"]


def _rows(model: type[BaseModel]) -> list[str]:
    return [_row(name, field) for name, field in model.model_fields.items()]


def _row(name: str, field: Any) -> str:
    limits = [f"{sign} {value:g}" for m in field.metadata for key, sign in _BOUNDS.items()
              if (value := getattr(m, key, None)) is not None]  # fmt: skip
    default = field.get_default(call_default_factory=True)
    shown = "" if default is PydanticUndefined else f"`{_plain(default)}`"
    cells = [f"`{name}`", shown, ", ".join(limits), field.description or ""]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _plain(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"

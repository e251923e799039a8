"""Fields of configurations: how some are changed, and which known name a wrong one was meant to be."""

import difflib
from collections.abc import Iterable, Mapping
from typing import TypeVar

from pydantic import BaseModel

Config = TypeVar("Config", bound=BaseModel)


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """`config` with some fields changed, all of them checked anew.

    A class may have `presets`, {field: {value: {other field: value}}}: with another value of such a field comes its
    preset, where the fields of the old one had been left as they were.

    Raises:
        pydantic.ValidationError: a ValueError for what does not fit.
    """
    kept = config.model_dump()
    presets: Mapping[str, Mapping[str, Mapping[str, object]]] = getattr(config, "presets", {})
    for field in presets.keys() & changes.keys():
        old = presets[field][kept[field]]
        kept = {name: value for name, value in kept.items() if old.get(name, ...) != value}
    return type(config).model_validate({**kept, **changes})


def closest(name: str, known: Iterable[str], alike: float = 0.5) -> str | None:
    """The known name that is most like `name`, letters large or small; None where none is."""
    names = {candidate.lower(): candidate for candidate in known}
    found = difflib.get_close_matches(name.lower(), names, n=1, cutoff=alike)
    return names[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The end of a sentence about an unknown name: which one may have been meant, or else which there are."""
    names = list(known)
    meant = closest(name, names)
    return f"did you mean {prefix}{meant}?" if meant else f"known here: {', '.join(sorted(names))}"

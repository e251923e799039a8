"""Fields of configurations: how some are changed, what does not fit in them, and which known name was meant."""

import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError

Config = TypeVar("Config", bound=BaseModel)


class Configuration(BaseModel):
    """A group of parameters: a field that it does not know is an error, and none changes afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """`config` with some fields changed, checked anew as a whole; what was left to its default stays so.

    A class may have `presets`, {field: {value: {other field: value}}}: with another value of such a field comes its
    preset, where the fields of the old one had been left as they were.

    Raises:
        pydantic.ValidationError: a ValueError for what does not fit.
    """
    kept = {name: getattr(config, name) for name in config.model_fields_set}
    presets: Mapping[str, Mapping[str, Mapping[str, object]]] = getattr(config, "presets", {})
    for field in presets.keys() & changes.keys():
        old = presets[field][getattr(config, field)]
        kept = {name: value for name, value in kept.items() if old.get(name, ...) != value}
    return type(config).model_validate({**kept, **changes})


def require(name: str, made: Any, asked: Any, by: str = "the checkpoint was trained", cure: str = "train") -> None:
    """Raise ValueError where a parameter was `asked` for otherwise than what is there was `made`."""
    if asked != made:
        made, asked = ("+".join(map(str, value)) if isinstance(value, tuple) else value for value in (made, asked))
        raise ValueError(f"expected {name}={made}, by which {by}, found {asked}: leave it out, or {cure} with it")


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


def complaints(error: ValidationError, model: type[BaseModel], where: str = "") -> list[str]:
    """What does not fit in the fields of `model` at `where`, a sentence each: which one, why, and which was meant."""
    return [_complaint(dict(item), model, where) for item in error.errors(include_url=False)]


def _complaint(item: dict[str, Any], model: type[BaseModel], where: str) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join([where, *path] if where else path)
    if item["type"] != "extra_forbidden":
        reason = str(item["msg"]).removeprefix("Value error, ")
        found = "" if "found" in reason else f", found {item['input']!r}"
        return f"{name}: {reason}{found}" if name else f"{reason}{found}"
    known = list(_model_at(path[:-1], model).model_fields)
    cure = did_you_mean(path[-1], known, "".join(f"{part}." for part in path[:-1]))
    return f"{name}: there is no such parameter; {cure}"


def _model_at(path: list[str], model: type[BaseModel]) -> type[BaseModel]:
    for part in path:
        options = kinds(model, part) if part in model.model_fields else ()
        nested = [o for o in options if isinstance(o, type) and issubclass(o, BaseModel)]
        if not nested:
            break
        model = nested[0]
    return model


def kinds(model: type[BaseModel], field: str) -> tuple[Any, ...]:
    """The types that a field may have."""
    annotation = model.model_fields[field].annotation
    return get_args(annotation) if get_origin(annotation) in (Union, types.UnionType) else (annotation,)

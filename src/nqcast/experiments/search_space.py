"""The search space of a tuning as it stands in YAML; imports neither torch nor Optuna."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, model_validator

from nqcast.fields import Configuration, changed, did_you_mean, kinds

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Value = bool | int | float | str | None | list[Any]
_LEAF = {"low", "high", "log", "step", "choices"}

# What a forecast is, or where it is computed: trials that differ in these cannot be compared, or need not be.
NOT_TUNED = frozenset(
    {
        *("model.quantiles", "model.n_horizons", "model.n_features", "train.quantiles", "train.horizons"),
        *("train.start_name", "train.device", "train.seed", "train.resume", "train.top_k", "train.log_every"),
    }
)


class SearchParameter(Configuration):
    """What one parameter may be: a range {low, high, log, step}, or {choices: [...]}."""

    low: float | int | None = Field(default=None, description="Least value (the parameter's own unit).")
    high: float | int | None = Field(default=None, description="Greatest value (the parameter's own unit).")
    log: bool = Field(default=False, description="Draw on a logarithmic scale.")
    step: float | int | None = Field(default=None, gt=0, description="Distance of values; none = any value between.")
    choices: tuple[Value, ...] | None = Field(default=None, min_length=2, description="The values themselves.")

    @model_validator(mode="after")
    def _one_form(self) -> SearchParameter:
        if self.choices is not None:
            if {self.low, self.high, self.step} != {None} or self.log:
                raise ValueError("expected choices or a range, found both: leave one out")
            return self
        if self.low is None or self.high is None:
            raise ValueError("expected {low, high} or {choices: [...]}, found neither: add what is missing")
        if self.low >= self.high:
            raise ValueError(f"expected low below high, found {self.low} and {self.high}: swap them")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError(
                f"expected low above 0 and no step with log: true, found {self.low} and {self.step}: change one of them"
            )
        return self

    def holds(self, value: Value) -> bool:
        """Whether a value can be drawn."""
        if self.choices is not None:
            return as_choice(value) in [as_choice(choice) for choice in self.choices]
        if self.low is None or self.high is None or not isinstance(value, int | float):
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return self.low <= value <= self.high and abs(steps - round(steps)) < 1e-9

    def distribution(self, whole: bool) -> BaseDistribution:
        """Optuna's distribution of this parameter; `whole`: whether a range holds whole numbers only."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.choices is not None:
            return CategoricalDistribution([as_choice(choice) for choice in self.choices])
        assert self.low is not None and self.high is not None  # checked where the space is read
        if whole:
            return IntDistribution(int(self.low), int(self.high), self.log, int(self.step or 1))
        return FloatDistribution(float(self.low), float(self.high), self.log, self.step)

    @property
    def extremes(self) -> tuple[Value, ...]:
        """The values that show whether the whole of it fits: both ends, or every choice."""
        return (self.low, self.high) if self.choices is None else self.choices


def _with_dotted_names(space: object) -> object:
    """{"train": {"lr": {...}}} as {"train.lr": {...}}, later ones over earlier ones; a null takes a parameter out.

    Both spellings meet when --params changes a part of what a file holds.
    """
    if not isinstance(space, Mapping):
        return space
    flat: dict[str, object] = {}
    for name, value in _leaves(space):
        known = flat.get(name)
        flat[name] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    return {name: value for name, value in flat.items() if value is not None}


def _leaves(tree: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, object]]:
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value and name.count(".") < 1 and not _LEAF & set(value):
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


Space = Annotated[dict[str, SearchParameter], BeforeValidator(_with_dotted_names)]


def check_space(space: Mapping[str, SearchParameter], configs: Mapping[str, BaseModel], longest: int) -> None:
    """Prove that every name is a parameter of a group in `configs` and takes both ends of its range or every choice.

    Args:
        space: what may vary.
        configs: configuration of each group (model, train, scale).
        longest: greatest model.context that the split has room for, in bars.

    Raises:
        ValueError: names every parameter that does not fit, why, and the closest known name.
    """
    found = [text for name, parameter in space.items() for text in _complaints(name, parameter, configs, longest)]
    if found:
        raise ValueError("; ".join(found))


def _complaints(name: str, parameter: SearchParameter, configs: Mapping[str, BaseModel], longest: int) -> Iterable[str]:
    where = f"tune.space.{name}"
    known = [f"{group}.{field}" for group, config in configs.items() for field in type(config).model_fields]
    if name not in known:
        yield f"{where}: found no such parameter; {did_you_mean(name, known)}"
        return
    if name in NOT_TUNED:
        yield f"{where}: found a parameter that cannot be tuned (trials must forecast the same): take it out"
        return
    group, field = name.split(".")
    if parameter.choices is None and not _numeric(type(configs[group]), field):
        yield f"{where}: expected choices for a parameter that is no number, found a range: write {{choices: [...]}}"
        return
    for value in parameter.extremes:
        yield from (f"{where}: {reason}" for reason in _reasons(configs[group], field, value))
        if name == "model.context" and isinstance(value, int) and value > longest:
            yield f"{where}: expected at most split.context ({longest} bars), found {value}: lower it"


def _reasons(config: BaseModel, field: str, value: Value) -> Iterable[str]:
    """Why `field` does not take `value`; what depends on other fields is left to the trial that combines them."""
    try:
        changed(config, {field: value})
    except ValidationError as error:
        for item in error.errors(include_url=False):
            if item["loc"]:
                yield f"{str(item['msg']).removeprefix('Value error, ')}, found {value!r}"


def is_whole(config: type[BaseModel], field: str) -> bool:
    """Whether a parameter takes whole numbers only."""
    return int in kinds(config, field) and float not in kinds(config, field)


def _numeric(config: type[BaseModel], field: str) -> bool:
    return bool({int, float} & set(kinds(config, field)))


def as_choice(value: Value | tuple[Value, ...]) -> bool | int | float | str | None:
    """A choice as Optuna stores it: lists as JSON text."""
    return json.dumps(value) if isinstance(value, list | tuple) else value


def from_choice(parameter: SearchParameter, stored: Value) -> Value:
    """The choice that `as_choice` made `stored` of."""
    return next((value for value in parameter.choices or () if as_choice(value) == stored), stored)


def by_group(values: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """{"train.lr": 1} as {"train": {"lr": 1}}."""
    groups: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        group, field = name.split(".")
        groups.setdefault(group, {})[field] = value
    return groups

"""All parameters of a run as one model: unknown names and bad values meet one clear error before any work."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from nqcast.backtest.config import BacktestConfig
from nqcast.constants import BAR_MINUTES, LEVELS
from nqcast.data.config import FeaturesConfig, ScaleConfig, SplitConfig
from nqcast.evaluation.config import EvaluateConfig, ScoreFileConfig
from nqcast.experiments.config import AblationConfig, TuneConfig, UpdateConfig, VerdictConfig, WalkForwardConfig
from nqcast.experiments.search_space import check_space
from nqcast.fields import Config, changed, complaints
from nqcast.forecast.config import ForecastConfig
from nqcast.horizons import DEFAULT, check_multiples, horizons, in_order
from nqcast.market.config import IngestConfig
from nqcast.market.instruments import instrument
from nqcast.market.simulation.config import SimulationConfig
from nqcast.model.config import ModelConfig
from nqcast.monitoring.config import MonitorConfig
from nqcast.spacing import BarMinutes, Spacing
from nqcast.symbols.schedule import PartitionsConfig
from nqcast.tracking.config import TrackingConfig
from nqcast.training.config import TrainConfig

SET_BY_THE_RUN = {
    "model.bar_minutes": "set `bar_minutes`, which the whole run shares",
    "model.quantiles": "set `quantiles`, which the whole run shares",
    "model.n_features": "the run counts the features itself",
    "model.n_horizons": "set `horizons`, which the whole run shares",
    "train.quantiles": "set `quantiles`, which the whole run shares",
    "train.horizons": "set `horizons`, which the whole run shares",
    "train.start_name": "the run names its start by scale.kind",
}
"""Fields that a checkpoint keeps and a run fills by itself; given as a parameter they would do nothing."""


class ParameterError(ValueError):
    """One or more parameters are unknown or out of bounds; the message lists every one with its cure."""


class Parameters(BaseModel):
    """The groups at the top level of `parameters_*.yml` and `--params`."""

    model_config = ConfigDict(extra="forbid")

    bars: str | None = Field(
        default=None, description="Path of the user's bars (DBN, parquet or CSV), read by `--env nq`."
    )
    instrument: str = Field(
        default="NQ", description="Row of the table of instruments: its tick, calendar, halts and contract months."
    )
    instruments: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="Rows of your own for that table, by symbol: tick, calendar, halt, months, …"
    )
    predictions: str | None = Field(
        default=None, description="Path of anyone's forecasts (parquet or CSV), read by the pipeline `score_file`."
    )
    rebuild: bool = Field(
        default=False, description="Make bars and features anew although file, code and parameters are the same."
    )
    quantiles: tuple[float, ...] = Field(
        default=LEVELS, description="Probabilities of the forecast quantiles, ascending."
    )
    horizons: tuple[str, ...] = Field(
        default=DEFAULT,
        description="How far ahead: 45m or 2h by the clock inside the session, close to its end, 1d to the same hour "
        "of the next. A list, or text such as 15m+2h+close.",
    )
    bar_minutes: BarMinutes = Field(
        default=BAR_MINUTES, description="How far bars stand apart (minutes), in any finer source's bars put together."
    )
    simulation: SimulationConfig = SimulationConfig()
    ingest: IngestConfig = IngestConfig()
    features: FeaturesConfig = FeaturesConfig()
    partitions: PartitionsConfig = PartitionsConfig()
    split: SplitConfig = SplitConfig()
    scale: ScaleConfig = ScaleConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    score_file: ScoreFileConfig = ScoreFileConfig()
    forecast: ForecastConfig = ForecastConfig()
    walk_forward: WalkForwardConfig = WalkForwardConfig()
    verdict: VerdictConfig = VerdictConfig()
    update: UpdateConfig = UpdateConfig()
    ablation: AblationConfig = AblationConfig()
    tune: TuneConfig = TuneConfig()
    backtest: BacktestConfig = BacktestConfig()
    monitor: MonitorConfig = MonitorConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="before")
    @classmethod
    def _default_horizons_that_end_with_a_bar(cls, given: dict[str, Any]) -> dict[str, Any]:
        """Keep of the default list what the spacing can express; a choice of the user's own stays whole."""
        minutes = given.get("bar_minutes", BAR_MINUTES)
        if given.get("horizons", DEFAULT) not in (DEFAULT, list(DEFAULT)) or minutes not in get_args(BarMinutes):
            return given
        return {**given, "horizons": [one.name for one in horizons(DEFAULT) if one.minutes % minutes == 0]}

    @field_validator("horizons", mode="before")
    @classmethod
    def _named(cls, names: object) -> object:
        """Horizons come as `5m+close` too, since --params parts its items at commas."""
        return tuple(names.split("+")) if isinstance(names, str) else names

    @field_validator("horizons")
    @classmethod
    def _from_the_shortest(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return in_order(names)

    @field_validator("quantiles", mode="before")
    @classmethod
    def _from_the_command_line(cls, levels: object) -> object:
        """Levels come as `.05+.5+.95` too, since --params parts its items at commas."""
        if not isinstance(levels, str | int | float):
            return levels
        try:
            return tuple(float(part) for part in str(levels).split("+"))
        except ValueError:
            raise ValueError(f"expected levels joined by +, such as .05+.5+.95, found {levels!r}") from None

    @field_validator("quantiles")
    @classmethod
    def _usable(cls, levels: tuple[float, ...]) -> tuple[float, ...]:
        ascending = all(a < b for a, b in pairwise(levels))
        if not (ascending and levels and levels[0] > 0 and levels[-1] < 1):
            raise ValueError(
                f"expected probabilities in ascending order between 0 and 1, found {list(levels)}: "
                f"sort them, for example {sorted({q for q in levels if 0 < q < 1})}"
            )
        if 0.5 not in levels:
            raise ValueError(f"expected the median, 0.5, among the quantiles, found {list(levels)}: add it")
        if any(round(level, 4) != level for level in levels):
            raise ValueError(f"expected levels of at most four decimals, found {list(levels)}: round them")
        if not any(round(1 - level, 6) in levels for level in levels if level < 0.5):
            raise ValueError(
                f"expected the two ends of an interval among the quantiles, found {list(levels)}: add a pair such as "
                "0.1 and 0.9"
            )
        return levels

    @model_validator(mode="after")
    def _set_by_the_run(self) -> Parameters:
        for name, cure in SET_BY_THE_RUN.items():
            group, field = name.split(".")
            if field in getattr(self, group).model_fields_set:
                raise ValueError(f"{name}: found a value where nothing reads one: {cure}")
        return self

    @model_validator(mode="after")
    def _horizons_end_with_a_bar(self) -> Parameters:
        check_multiples(self.horizons, self.bar_minutes)
        if "bar_minutes" in self.ingest.model_fields_set and self.ingest.bar_minutes != self.bar_minutes:
            raise ValueError(
                "expected ingest.bar_minutes to be the run's, found a value of its own: set `bar_minutes` alone"
            )
        return self

    @model_validator(mode="after")
    def _a_token_is_whole_bars(self) -> Parameters:
        context, patch = (Spacing(self.bar_minutes).rows(n) for n in (self.model.context, self.model.patch_length))
        if self.model.tokens != "auto" and context % patch:
            raise ValueError(
                f"expected a window of whole tokens of {self.bar_minutes}-minute bars, found {context} bars for "
                f"model.context={self.model.context} and {patch} for model.patch_length={self.model.patch_length}, "
                "which count bars of five minutes: choose others, such as 288 and 12"
            )
        return self

    @model_validator(mode="after")
    def _windows_fit(self) -> Parameters:
        if self.model.context > self.split.context:
            raise ValueError(
                f"expected split.context to cover the model's window of {self.model.context} bars, found "
                f"{self.split.context}: set split.context and split.embargo_bars to at least {self.model.context}"
            )
        return self

    @model_validator(mode="after")
    def _one_tick(self) -> Parameters:
        if self.ingest.tick != self.features.tick:
            raise ValueError(
                f"expected one tick, found ingest.tick {self.ingest.tick:g} and features.tick {self.features.tick:g}: "
                "set both to the product's smallest price step"
            )
        return self

    @model_validator(mode="after")
    def _changes_fit(self) -> Parameters:
        """Fields that folds, variants and trials change are fields of the groups that they change, and fit them."""
        for group in ("walk_forward", "ablation", "tune", "update"):
            _changed(f"{group}.train", self.train, getattr(self, group).train)
        configs = {"scale": self.scale, "model": self.model, "train": self.train}
        check_space(self.tune.space, configs, self.split.context)
        for name, variant in self.ablation.variants.items():
            where = f"ablation.variants.{name}"
            _changed(f"{where}.scale", self.scale, variant.scale)
            _changed(f"{where}.train", self.train, {**self.ablation.train, **variant.train})
            model = _changed(f"{where}.model", self.model, variant.model)
            if model.context > self.split.context:
                raise ValueError(
                    f"expected split.context to cover the window of {model.context} bars of {where}, found "
                    f"{self.split.context}: raise split.context and split.embargo_bars, or shorten the window"
                )
        return self


def _changed(where: str, config: Config, changes: dict[str, Any]) -> Config:
    """`config` with `changes`; ValueError that names `where` and the closest known field for what does not fit."""
    for name, cure in SET_BY_THE_RUN.items():
        if name in (f"{where.rsplit('.', 1)[-1]}.{field}" for field in changes):
            raise ValueError(f"{where}.{name.split('.')[1]}: found a value where nothing reads one: {cure}")
    try:
        return changed(config, changes)
    except ValidationError as error:
        found = complaints(error, type(config), where)
    raise ValueError("; ".join(found))


def check_parameters(parameters: dict[str, Any]) -> Parameters:
    """Validate everything at once.

    Raises:
        ParameterError: names every unknown or bad parameter, what was expected, and the closest known name.
    """
    try:
        return Parameters.model_validate(parameters)
    except ValidationError as error:
        found = complaints(error, Parameters)
    raise ParameterError("the parameters do not fit:\n" + "\n".join(f"  - {text}" for text in found)) from None


def with_instrument(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters with what the row of a chosen instrument says where they say nothing themselves: calendar, ticks.

    Where none is chosen NQ's holds, or a checkpoint's; a row of the user's own for NQ is a choice. The spacing of the
    grid, which ingest takes from here where it is not five minutes, comes with them.

    Raises:
        ParameterError: there is no such row, or it does not fit.
    """
    chosen: dict[str, Any] = {}
    tick: dict[str, Any] = {}
    own = parameters.get("instruments") or {}
    if "instrument" in parameters or "NQ" in own:
        try:
            row = instrument(parameters.get("instrument", "NQ"), own)
        except ValueError as error:
            raise ParameterError(f"the parameters do not fit:\n  - instrument: {error}") from None
        tick = {"tick": row.tick}
        chosen = {"instrument": row.model_dump(mode="json"), **tick}
    minutes = parameters.get("bar_minutes", BAR_MINUTES)
    grid = {} if minutes == BAR_MINUTES else {"bar_minutes": minutes}
    ingest = {**chosen, **grid, **(parameters.get("ingest") or {})}
    return {**parameters, "ingest": ingest, "features": {**tick, **(parameters.get("features") or {})}}


def with_defaults(parameters: dict[str, Any]) -> dict[str, Any]:
    """The parameters as a run uses them, every default written out, as plain data."""
    unread: dict[str, set[str]] = {}
    for group, field in (name.split(".") for name in SET_BY_THE_RUN):
        unread.setdefault(group, set()).add(field)
    return check_parameters(parameters).model_dump(mode="json", exclude=unread)

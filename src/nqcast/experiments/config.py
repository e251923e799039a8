"""Parameters of walk-forward, ablations and tuning; imports neither torch nor matplotlib."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.search_space import Space
from nqcast.fields import Configuration
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig


class ExperimentSettings(BaseModel):
    """What every experiment starts from: the configured split, forecaster and evaluation, as one artifact."""

    model_config = ConfigDict(frozen=True)

    split: SplitConfig
    scale: ScaleConfig
    model: ModelConfig
    train: TrainConfig
    quantiles: tuple[float, ...]
    evaluate: EvaluateConfig


class WalkForwardConfig(Configuration):
    """How the sessions are cut into folds; the last fold's out-of-sample stretch ends with the data."""

    folds: int = Field(default=4, ge=1, le=500, description="Folds, one out-of-sample stretch each (count).")
    mode: Literal["expanding", "rolling"] = Field(
        default="expanding",
        description="Train on all sessions before validation (expanding) or on the latest train_sessions (rolling).",
    )
    train_sessions: int = Field(
        default=120, ge=1, description="Sessions that train: exactly (rolling), or at least (expanding)."
    )
    validation_sessions: int = Field(
        default=40, ge=1, description="Sessions before the out-of-sample stretch that stop training and calibrate."
    )
    test_sessions: int = Field(default=40, ge=1, description="Out-of-sample sessions of each fold.")
    warm_start: bool = Field(
        default=False, description="Start a fold's network from the weights of the latest fold before it that finished."
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Fields of train.* that differ inside a fold, such as epochs."
    )


class UpdateConfig(Configuration):
    """How a forecaster goes on with new bars."""

    validation_sessions: int = Field(
        default=60, ge=5, description="Latest sessions, which judge the new version, and calibrate."
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Fields of train.* that differ from those of the version before."
    )


class VerdictConfig(Configuration):
    """The question that is registered, and the refits by which it is answered."""

    question: str = Field(
        default="Is the model's mean gain over seasonal_har above 0, and over the best fair baseline too?",
        min_length=10,
        description="What the verdict is asked, written down before it is known.",
    )
    folds: WalkForwardConfig = Field(
        default=WalkForwardConfig(), description="Refits: fields of walk_forward.*; the last ends with the data."
    )
    baselines: Literal["quick", "full", "fair"] = Field(
        default="fair", description="Baselines in the table (evaluate.baselines)."
    )


class Variant(Configuration):
    """One ablation: what differs from the configured model."""

    scale: dict[str, Any] = Field(default_factory=dict, description="Fields of scale.* that differ.")
    model: dict[str, Any] = Field(default_factory=dict, description="Fields of model.* that differ.")
    train: dict[str, Any] = Field(default_factory=dict, description="Fields of train.* that differ.")


class AblationConfig(Configuration):
    """Which parts are taken away, one at a time, and how each is trained."""

    seeds: tuple[int, ...] = Field(
        default=(0, 1), min_length=1, description="Seeds that every variant is trained with; losses are averaged."
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Fields of train.* that differ in all variants, such as epochs."
    )
    variants: dict[str, Variant] = Field(
        default_factory=dict, description="Variants by name; the configured model itself runs beside them as `base`."
    )

    @field_validator("variants")
    @classmethod
    def _names_are_folders(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        if "base" in variants:
            raise ValueError(
                "expected another name than 'base', which is the configured model, found it: rename the variant"
            )
        for name in variants:
            if not re.fullmatch(r"\w[\w-]*", name):
                raise ValueError(
                    f"expected letters, digits, _ and - as the name of a variant, found {name!r}: a folder is called so"
                )
        return variants


class TuneConfig(Configuration):
    """What is searched, for how long, and by which number; the validation split judges, never the test split."""

    trials: int = Field(default=20, ge=1, description="Trials that end, pruned ones included, failed ones not (count).")
    seed: int = Field(default=0, ge=0, description="Seed of the draws; all trials train with train.seed.")
    sampler: Literal["tpe", "random"] = Field(
        default="tpe", description="tpe: tree-structured Parzen estimator after startup_trials random ones."
    )
    startup_trials: int = Field(default=6, ge=1, description="Random trials before estimating and pruning (count).")
    prune: bool = Field(
        default=True, description="End a trial after an epoch whose objective is worse than the median of the others."
    )
    prune_from_epoch: int = Field(default=1, ge=1, description="First epoch after which a trial may end early.")
    objective: Literal["val_loss", "val_loss_returns"] = Field(
        default="val_loss",
        description="Least value over a trial's epochs that counts: loss over the scale, or in return units.",
    )
    try_configured: bool = Field(
        default=True, description="The first trial is the configured values, where the space holds them."
    )
    most_failures: int = Field(
        default=10, ge=0, description="Trials that may fail by themselves, such as a width that heads do not divide."
    )
    train: dict[str, Any] = Field(
        default_factory=dict, description="Fields of train.* that differ in all trials, such as epochs."
    )
    space: Space = Field(
        default_factory=dict,
        description="Parameters of model.*, train.* and scale.* by name: {low, high, log, step} or {choices: [...]}.",
    )

    @model_validator(mode="after")
    def _one_unit(self) -> TuneConfig:
        scaled = [name for name in self.space if name.startswith("scale.")]
        if scaled and self.objective == "val_loss":
            raise ValueError(
                f"expected objective val_loss_returns where {', '.join(scaled)} varies, found val_loss, which is in "
                "units of the scale: set tune.objective=val_loss_returns"
            )
        return self

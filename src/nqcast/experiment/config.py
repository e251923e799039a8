"""Parameters of the walk-forward and of the ablations; imports neither torch nor matplotlib."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from nqcast.data.config import ScaleConfig
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig


class WalkForwardConfig(BaseModel):
    """How the sessions are cut into folds; the last fold's out-of-sample stretch ends with the data."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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


class Variant(BaseModel):
    """One ablation: what differs from the configured model."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scale: dict[str, Any] = Field(default_factory=dict, description="Fields of scale.* that differ.")
    model: dict[str, Any] = Field(default_factory=dict, description="Fields of model.* that differ.")
    train: dict[str, Any] = Field(default_factory=dict, description="Fields of train.* that differ.")

    def apply(
        self, scale: ScaleConfig, model: ModelConfig, train: TrainConfig
    ) -> tuple[ScaleConfig, ModelConfig, TrainConfig]:
        """The three configurations with this variant's changes; pydantic's ValidationError for what does not fit."""
        return (
            ScaleConfig(**{**scale.model_dump(), **self.scale}),
            ModelConfig(**{**model.model_dump(), **self.model}),
            TrainConfig(**{**train.model_dump(), **self.train}),
        )


class AblationConfig(BaseModel):
    """Which parts are taken away, one at a time, and how each is trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

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
    def _base_is_taken(cls, variants: dict[str, Variant]) -> dict[str, Variant]:
        if "base" in variants:
            raise ValueError("expected any name but 'base', which is the configured model: rename the variant")
        return variants

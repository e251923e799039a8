"""One node trains every variant on the same split and compares them on validation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import AblationConfig
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig


def settle_ablation(
    split: SplitConfig,
    scale: ScaleConfig,
    model: ModelConfig,
    train: TrainConfig,
    quantiles: list[float],
    evaluate: EvaluateConfig,
    config: AblationConfig,
) -> Any:
    """Everything that is compared, as one `experiment.ablation.Ablation`."""
    from nqcast.experiments.ablation import Ablation
    from nqcast.runs.recipe import Recipe

    return Ablation(split, Recipe(scale, model, train, tuple(quantiles)), evaluate, config)


def run_ablation(features: pd.DataFrame, settings: Any, ablation_directory: Path) -> dict[str, Any]:
    """The table of all variants; its text ends the run."""
    from nqcast.data.features import check_features

    check_features(features)
    return settings.run(features, ablation_directory)

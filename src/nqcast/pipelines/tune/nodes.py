"""One node works through the trials, the others tell what they found; Optuna and torch are imported where used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.experiments.config import TuneConfig
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig


def settle_tuning(
    split: SplitConfig,
    scale: ScaleConfig,
    model: ModelConfig,
    train: TrainConfig,
    quantiles: list[float],
    config: TuneConfig,
) -> Any:
    """Everything that shapes the study, as one `experiment.tuning.Tuning`."""
    from nqcast.experiments.tuning import Tuning
    from nqcast.runs.recipe import Recipe

    return Tuning(split, Recipe(scale, model, train, tuple(quantiles)), config)


def run_trials(features: pd.DataFrame, settings: Any, tune_directory: Path) -> dict[str, Any]:
    """All trials of the study and the best of them; its text ends the run."""
    from nqcast.data.features import check_features

    check_features(features)
    return settings.run(features, tune_directory)


def write_best(tuning_scores: dict[str, Any]) -> str:
    """The best parameters as a file for `kedro run --config`."""
    from nqcast.experiments.tuning_report import run_config

    return run_config(tuning_scores)


def draw_tuning(tuning_scores: dict[str, Any], config: TuneConfig) -> Any:
    """History and parameters in one figure."""
    from nqcast.report.figures.tuning import tuning_figure

    return tuning_figure(tuning_scores, config.space)

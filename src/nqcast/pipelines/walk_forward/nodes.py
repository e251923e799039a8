"""Folds one after the other, then one scored record; torch is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import WalkForwardConfig
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig


def settle_walk_forward(
    split: SplitConfig,
    scale: ScaleConfig,
    model: ModelConfig,
    train: TrainConfig,
    quantiles: list[float],
    evaluate: EvaluateConfig,
    config: WalkForwardConfig,
) -> Any:
    """Everything that shapes the folds, as one `experiment.walk_forward.WalkForward`."""
    from nqcast.experiments.walk_forward import WalkForward
    from nqcast.runs.recipe import Recipe, merged

    recipe = Recipe(scale, model, merged(train, config.train), tuple(quantiles))
    return WalkForward(split, recipe, evaluate, config)


def run_folds(
    features: pd.DataFrame, settings: Any, finished_folds: dict[str, Any], fold_directory: Path
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each fold as it ends: its partition, and its line in the log (finished, skipped or failed)."""
    from nqcast.data.features import check_features

    check_features(features)
    yield from settings.run(features, finished_folds, fold_directory)


def join_folds(
    folds: dict[str, Any], log: list[dict[str, Any]], quantiles: list[float], evaluate: EvaluateConfig
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All out-of-sample forecasts as one frame, and the verdict on them."""
    from nqcast.experiments import walk_forward_scores

    frame, entries = walk_forward_scores.join_folds(folds, log)
    return frame, walk_forward_scores.score_folds(frame, entries, tuple(quantiles), evaluate)

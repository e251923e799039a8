"""Folds one after the other, then one scored record; torch is imported where it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import ExperimentSettings, WalkForwardConfig


def run_folds(
    features: pd.DataFrame,
    settings: ExperimentSettings,
    config: WalkForwardConfig,
    finished_folds: dict[str, Any],
    fold_directory: Path,
) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each fold as it ends: its partition, and its line in the log (finished, skipped or failed)."""
    from nqcast.data.features import check_features
    from nqcast.experiments.walk_forward import WalkForward

    check_features(features)
    yield from WalkForward.of(settings, config).run(features, finished_folds, fold_directory)


def join_folds(
    folds: dict[str, Any], log: list[dict[str, Any]], quantiles: list[float], evaluate: EvaluateConfig
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """All out-of-sample forecasts as one frame, and their scores."""
    from nqcast.experiments import walk_forward_scores

    frame, entries = walk_forward_scores.join_folds(folds, log)
    return frame, walk_forward_scores.score_folds(frame, entries, tuple(quantiles), evaluate)

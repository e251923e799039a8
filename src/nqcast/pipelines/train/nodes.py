"""Feature loading, splitting, scale, training and validation metrics; torch is imported where it is used."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.data.config import HORIZONS, ScaleConfig, SplitConfig
from nqcast.model.config import ModelConfig
from nqcast.training.config import TrainConfig

logger = logging.getLogger(__name__)


def load_features(features: pd.DataFrame) -> pd.DataFrame:
    """The feature table, proved to hold every column that training needs, finite and in time order."""
    from nqcast.data.features import check_features

    return check_features(features)


def split_dataset(feature_table: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """Anchors of train, validation and test in time order, proved not to overlap."""
    from nqcast.data.splits import check_no_overlap, make_splits

    splits = make_splits(feature_table, config)
    check_no_overlap(feature_table, splits, config)
    return splits


def fit_scale(
    feature_table: pd.DataFrame, splits: pd.DataFrame, config: ScaleConfig, quantiles: list[float]
) -> dict[str, Any]:
    """The classical model that the network corrects, fitted on train anchors alone."""
    from nqcast.data.scale import make_scale
    from nqcast.data.splits import positions

    scale = make_scale(config, tuple(quantiles)).fit(feature_table, positions(splits, "train"))
    arrays, scalars = scale.state()
    return {"arrays": arrays, "scalars": scalars}


def train_model(
    feature_table: pd.DataFrame,
    splits: pd.DataFrame,
    scale: dict[str, Any],
    run_directory: Path,
    model: ModelConfig,
    train: TrainConfig,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Train on the best device there is; the best checkpoint by validation loss comes back, with the history."""
    from nqcast.pipelines.train.training_run import TrainingRun

    return TrainingRun(feature_table, splits, scale, model, train).run(run_directory)


def validation_metrics(
    checkpoint: dict[str, Any], feature_table: pd.DataFrame, splits: pd.DataFrame
) -> dict[str, float]:
    """Every metric of the returned checkpoint on the validation split, by the numpy oracle."""
    from nqcast.evaluation.metrics import all_metrics
    from nqcast.evaluation.predict import predict
    from nqcast.data.splits import positions

    raise RuntimeError("wired once evaluation.predict stands")

"""Feature loading, splitting, scale, training, validation metrics, calibration; torch is imported where it is used.

features → first_splits → scale → first_checkpoint, history → validation_metrics → first_calibration, and by a second
training, where train.refit asks for one, → checkpoint, calibration, splits.
"""

import logging
from dataclasses import replace
from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.fingerprint import data_card, product_of
from nqcast.data.scale import Scale
from nqcast.data.splits import make_splits, positions
from nqcast.data.trailing import trailing_rows
from nqcast.evaluation.config import EvaluateConfig
from nqcast.horizons import check_horizons
from nqcast.market.config import IngestConfig
from nqcast.model.config import ModelConfig
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.json_values import Json
from nqcast.training.config import TrainConfig

logger = logging.getLogger(__name__)


def load_features(features: pd.DataFrame, ingest: IngestConfig, horizons: list[str]) -> tuple[pd.DataFrame, DataCard]:
    """The feature table, proved to be of these horizons and bars, and the name of its content and its instrument."""
    check_horizons(features.columns, horizons)
    ingest.spacing.check(features["ts"])
    product = ingest.of_product(**product_of(features), by="the features were made", cure="run ingest,features")
    card = data_card(features, product.instrument.model_dump(mode="json"))
    logger.info("%d feature rows from %s to %s UTC, content %s", card.rows, card.first, card.last, card.fingerprint)
    return features, card


def split_dataset(feature_table: pd.DataFrame, config: SplitConfig) -> pd.DataFrame:
    """Anchors of train, validation and test in time order, proved not to overlap."""
    splits = make_splits(feature_table, config)
    for name, part in splits.groupby("split", sort=False):
        logger.info(
            "%-10s %7d anchors, sessions %s to %s",
            name,
            len(part),
            part["session"].min().date(),
            part["session"].max().date(),
        )
    return splits


def fit_scale(feature_table: pd.DataFrame, splits: pd.DataFrame, config: ScaleConfig, quantiles: list[float]) -> Scale:
    """The classical model that the network corrects, fitted on train anchors alone."""
    from nqcast.data.seasonal_har import make_scale

    return make_scale(config, quantiles).fit(feature_table, positions(splits, "train"))


def train_model(
    feature_table: pd.DataFrame,
    splits: pd.DataFrame,
    scale: Scale,
    data_card: DataCard,
    run_directory: Path,
    model: ModelConfig,
    train: TrainConfig,
) -> tuple[Checkpoint, list[Json]]:
    """Train on the best device there is; the best checkpoint by validation loss comes back, with the history.

    With it go the latest sessions of the table, in which a forecast from a few weeks of bars finds what it lacks.
    """
    from nqcast.runs.recipe import Recipe
    from nqcast.runs.train import train as train_run

    recipe = Recipe(scale.config, model, train, scale.levels)
    run = recipe.run(feature_table, splits, data_card, fitted=scale)
    checkpoint, history = train_run(run, run_directory)
    return checkpoint.with_trailing(trailing_rows(feature_table, scale.config)), history


def validation_metrics(
    checkpoint: Checkpoint, feature_table: pd.DataFrame, splits: pd.DataFrame, config: EvaluateConfig
) -> dict[str, float]:
    """Every metric of the returned checkpoint on the validation split, by the numpy oracle."""
    from nqcast.runs.train import validation_report

    return validation_report(
        checkpoint, feature_table, positions(splits, "train"), positions(splits, "validation"), config
    )


def fit_calibration(
    checkpoint: Checkpoint,
    feature_table: pd.DataFrame,
    splits: pd.DataFrame,
    validation_metrics: dict[str, float],
    config: EvaluateConfig,
) -> Json:
    """Calibration of the returned checkpoint on the validation split; names its fingerprint and its loss there."""
    from nqcast.evaluation.calibration import calibration_of
    from nqcast.forecast.predictor import predict_frame

    frame = predict_frame(checkpoint, feature_table, positions(splits, "validation"), config)
    fitted = calibration_of(frame, checkpoint, config)
    skills = {name: 100 * validation_metrics[f"skill_{name}"] for name in ("constants", "seasonal_har")}
    found = (
        "On validation, which chose the epoch:",
        f"skill over constants {skills['constants']:.2f} %, over seasonal har {skills['seasonal_har']:+.2f} %.",
    )
    return replace(fitted, val_loss=validation_metrics["val_loss"], headline=found).to_json()


def refit(
    first_checkpoint: Checkpoint,
    first_calibration: Json,
    first_splits: pd.DataFrame,
    feature_table: pd.DataFrame,
    run_directory: Path,
    config: SplitConfig,
) -> tuple[Checkpoint, Json, pd.DataFrame]:
    """What forecasts, with its calibration and splits: what validation has judged, or that trained once more on it."""
    from nqcast.evaluation.calibration import Calibration
    from nqcast.runs.refit import Final
    from nqcast.runs.refit import refit as train_again

    judged = Final(first_checkpoint, Calibration.from_json(first_calibration), first_splits)
    checkpoint, calibration, splits = train_again(judged, feature_table, config, run_directory)
    return checkpoint, calibration.to_json(), splits


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                load_features,
                inputs=["features", "params:ingest", "params:horizons"],
                outputs=["feature_table", "data_card"],
                name="load_features",
            ),
            Node(split_dataset, inputs=["feature_table", "params:split"], outputs="first_splits", name="split_dataset"),
            Node(
                fit_scale,
                inputs=["feature_table", "first_splits", "params:scale", "params:quantiles"],
                outputs="scale",
                name="fit_scale",
            ),
            Node(
                train_model,
                inputs=[
                    *("feature_table", "first_splits", "scale", "data_card", "run_directory"),
                    *("params:model", "params:train"),
                ],
                outputs=["first_checkpoint", "history"],
                name="train_model",
            ),
            Node(
                validation_metrics,
                inputs=["first_checkpoint", "feature_table", "first_splits", "params:evaluate"],
                outputs="validation_metrics",
                name="validation_metrics",
            ),
            Node(
                fit_calibration,
                inputs=[
                    *("first_checkpoint", "feature_table", "first_splits", "validation_metrics", "params:evaluate"),
                ],
                outputs="first_calibration",
                name="fit_calibration",
            ),
            Node(
                refit,
                inputs=[
                    *("first_checkpoint", "first_calibration", "first_splits"),
                    *("feature_table", "run_directory", "params:split"),
                ],
                outputs=["checkpoint", "calibration", "splits"],
                name="refit",
            ),
        ]
    )

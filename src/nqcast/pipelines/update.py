"""New bars behind the old ones, a short training from the last weights, and whichever version validates better.

raw_bars, and what the last run left → bars, checkpoint, calibration, update_report.
"""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig, SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import UpdateConfig
from nqcast.fields import changed
from nqcast.market.config import IngestConfig
from nqcast.market.extend import extended
from nqcast.market.ingest import build_bars
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def extend_bars(
    last_bars: pd.DataFrame,
    raw_bars: pd.DataFrame,
    last_checkpoint: Checkpoint,
    ingest: IngestConfig,
    features: FeaturesConfig,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The bars that are there and what the new file adds to them, and their features as the checkpoint takes them."""
    from nqcast.forecast.loading import as_asked

    maker = as_asked(last_checkpoint, ingest, features)
    maker.spacing.check(last_bars["ts"])
    volume = maker.ingest.volume or FeaturesConfig(volume="auto").has_volume(raw_bars)
    grid = changed(maker.ingest, {"volume": volume})
    bars = extended(last_bars, build_bars(raw_bars, grid).bars, grid)
    return bars, maker.features(bars)


def update_forecaster(
    extended_features: pd.DataFrame,
    last_checkpoint: Checkpoint,
    last_calibration: Json,
    run_directory: Path,
    split: SplitConfig,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
) -> tuple[Checkpoint, Json, Json]:
    """The forecaster for tomorrow, its calibration, and what has become of the one before, together."""
    from nqcast.runs.refit import Update

    card = data_card(extended_features, last_checkpoint.metadata.data.instrument)
    update = Update(extended_features, card, last_checkpoint, split, config.validation_sessions, config.train, evaluate)
    return update.make(last_calibration, run_directory)


def keep_checkpoint(updated: tuple[Checkpoint, Json, Json]) -> Iterator[Checkpoint]:
    """The forecaster for tomorrow; nothing, and so no further version of it, where no bar was new.

    A generator function, of which Kedro saves what it yields.
    """
    checkpoint, _, report = updated
    if report["status"] != "nothing new":
        yield checkpoint


def keep_calibration(updated: tuple[Checkpoint, Json, Json], checkpoint: Checkpoint) -> Iterator[Json]:
    """Its calibration, once the checkpoint is saved, beside which it is registered; nothing where no bar was new."""
    _, calibration, report = updated
    if report["status"] != "nothing new":
        assert calibration["weights"] == checkpoint.weights_sha256, "a calibration of other weights"
        yield calibration


def report_update(updated: tuple[Checkpoint, Json, Json]) -> Json:
    """What has become of the version before."""
    return updated[-1]


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                extend_bars,
                inputs=["last_bars", "raw_bars", "last_checkpoint", "params:ingest", "params:features"],
                outputs=["bars", "extended_features"],
                name="extend_bars",
            ),
            Node(
                update_forecaster,
                inputs=[
                    *("extended_features", "last_checkpoint", "last_calibration", "run_directory"),
                    *("params:split", "params:update", "params:evaluate"),
                ],
                outputs="updated",
                name="update_forecaster",
            ),
            Node(keep_checkpoint, inputs="updated", outputs="checkpoint", name="keep_checkpoint"),
            Node(keep_calibration, inputs=["updated", "checkpoint"], outputs="calibration", name="keep_calibration"),
            Node(report_update, inputs="updated", outputs="update_report", name="report_update"),
        ]
    )

"""New bars behind the old ones, a short training from the last weights, and whichever version validates better.

raw_bars, and what the last run left → bars, checkpoint, calibration, update_report.
"""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig, SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import UpdateConfig
from nqcast.market.config import IngestConfig
from nqcast.market.extend import extended
from nqcast.market.ingest import build_bars
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def extend_bars(
    last_bars: pd.DataFrame, raw_bars: pd.DataFrame, ingest: IngestConfig, features: FeaturesConfig
) -> pd.DataFrame:
    """The bars that are there, and what the new file adds to them."""
    volume = ingest.volume and features.has_volume(raw_bars) and "volume" in last_bars
    grid = ingest.at(Spacing.of(last_bars["ts"])).model_copy(update={"volume": volume})
    return extended(last_bars, build_bars(raw_bars, grid).bars)


def update_forecaster(
    bars: pd.DataFrame,
    last_checkpoint: Checkpoint,
    last_calibration: Json,
    run_directory: Path,
    features: FeaturesConfig,
    split: SplitConfig,
    ingest: IngestConfig,
    config: UpdateConfig,
    evaluate: EvaluateConfig,
) -> tuple[Checkpoint, Json, Json]:
    """The forecaster for tomorrow, its calibration, and what has become of the one before."""
    from nqcast.data.features import build_features
    from nqcast.runs.update import Update

    last_checkpoint.metadata.spacing.check(bars["ts"])
    table = build_features(bars, features, names=last_checkpoint.metadata.horizons)
    card = data_card(table, ingest.instrument.model_dump(mode="json"))
    update = Update(table, card, last_checkpoint, split, config.validation_sessions, config.train, evaluate)
    return update.make(last_calibration, run_directory)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                extend_bars,
                inputs=["last_bars", "raw_bars", "params:ingest", "params:features"],
                outputs="bars",
                name="extend_bars",
            ),
            Node(
                update_forecaster,
                inputs=[
                    *("bars", "last_checkpoint", "last_calibration", "run_directory", "params:features"),
                    *("params:split", "params:ingest", "params:update", "params:evaluate"),
                ],
                outputs=["checkpoint", "calibration", "update_report"],
                name="update_forecaster",
            ),
        ]
    )

"""The newest bars and outcomes against training. Bars and features of the newest file stay in memory, and nothing that
training reads or wrote is an output.

raw_bars, and what training left → checks, rolling figures, report, chart.
"""

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig, SplitConfig
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.split_uses import use_by_checkpoint
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.monitoring.config import MonitorConfig
from nqcast.report import figures
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def read_newest(
    raw_bars: pd.DataFrame, checkpoint: Checkpoint, ingest: IngestConfig, of_features: FeaturesConfig
) -> pd.DataFrame:
    """Features of the newest bars, made as for the training, and written nowhere."""
    from nqcast.forecast.loading import as_asked

    maker = as_asked(checkpoint, ingest, of_features)
    return maker.features(build_bars(raw_bars, maker.ingest).bars)


def compare_with_training(
    newest: pd.DataFrame,
    features: pd.DataFrame,
    splits: pd.DataFrame,
    checkpoint: Checkpoint,
    calibration: Json,
    split: SplitConfig,
    config: MonitorConfig,
    evaluate: EvaluateConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, Json, Json]:
    """Checks, rolling figures, the report (exit_status ends the run), and a record where test anchors were scored."""
    from nqcast.evaluation.calibration import Calibration
    from nqcast.monitoring.compare import Trained, monitor

    trained = Trained(features, splits, checkpoint, Calibration.from_json(calibration))
    done = monitor(newest, trained, split, config, evaluate)
    test = splits.loc[splits["split"] == "test", "ts"]
    scored = int(newest["ts"].iloc[done.positions].isin(test).sum())
    record = {**use_by_checkpoint(checkpoint, scored, evaluate), "monitor": True} if scored else {}
    return done.checks, done.rolling, done.report, record


def draw_monitor(checks: pd.DataFrame, rolling: pd.DataFrame) -> object:
    """Drift, coverage and skill with their limits (a matplotlib Figure)."""
    return figures.draw_monitor(checks, rolling)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                read_newest,
                inputs=["raw_bars", "checkpoint", "params:ingest", "params:features"],
                outputs="monitored_features",
                name="read_newest",
            ),
            Node(
                compare_with_training,
                inputs=[
                    *("monitored_features", "features", "splits", "checkpoint", "calibration"),
                    *("params:split", "params:monitor", "params:evaluate"),
                ],
                outputs=["monitor_checks", "monitor_rolling", "monitor_report", "test_uses"],
                name="compare_with_training",
            ),
            Node(
                draw_monitor, inputs=["monitor_checks", "monitor_rolling"], outputs="monitor_chart", name="draw_monitor"
            ),
        ]
    )

"""The test split: forecasts, their scores beside the baselines, one fan chart, what the network uses, the report.

checkpoint, calibration, features → predictions (raw and calibrated), scores, fan_chart, explanation, report.
"""

from typing import Any, cast

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.fingerprint import require_trained_on
from nqcast.data.splits import positions
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.split_uses import count_uses, use_by_checkpoint
from nqcast.report import figures
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def predict_test(
    checkpoint: Checkpoint, calibration: Json, features: pd.DataFrame, splits: pd.DataFrame, config: EvaluateConfig
) -> tuple[Any, Json]:
    """Forecasts at every test anchor, made while they are written, and the record that the test split was used."""
    from nqcast.evaluation.calibration import Calibration
    from nqcast.forecast.predictor import predict_stream

    require_trained_on(features, checkpoint.metadata.data.fingerprint)
    anchors = positions(splits, "test")
    fitted_for = checkpoint.weights_sha256, checkpoint.metadata.quantiles, checkpoint.metadata.horizons
    Calibration.from_json(calibration).conformal(*fitted_for)  # refuse a mismatched pair at once
    stream = predict_stream(checkpoint, features, anchors, config)
    return stream, use_by_checkpoint(checkpoint, len(anchors), config)


def calibrate_test(predictions: pd.DataFrame, calibration: Json, checkpoint: Checkpoint) -> object:
    """The forecasts of the test split calibrated, offline and online, as a stream of frames."""
    from nqcast.evaluation.calibration import Calibration, calibrated_frames

    return calibrated_frames(predictions, Calibration.from_json(calibration), checkpoint.weights_sha256)


def score(
    predictions: pd.DataFrame,
    calibrated_predictions: pd.DataFrame,
    checkpoint: Checkpoint,
    features: pd.DataFrame,
    splits: pd.DataFrame,
    true_quantiles: Any,
    test_uses: list[Json],
    config: EvaluateConfig,
) -> tuple[Json, Any]:
    """Scores of the model and of every baseline on the same anchors, and the evidence that the report shows."""
    from nqcast.evaluation.comparison import compare_forecasts, market_of, untrained
    from nqcast.report.evidence import Evidence

    metadata = checkpoint.metadata
    evidence = Evidence.gather(predictions, calibrated_predictions, features, splits, metadata, config)
    scores = compare_forecasts(evidence, market_of(evidence.source, true_quantiles))
    scores["headline"] = [*untrained(metadata.best_epochs), *scores["headline"]]
    uses = count_uses(test_uses, metadata.data.fingerprint)
    return {**scores, "best_epoch": metadata.epoch, "test_uses": uses}, evidence


def draw_fan_chart(predictions: pd.DataFrame, features: pd.DataFrame, config: EvaluateConfig) -> object:
    """Forecast fans over one day of the test split (a matplotlib Figure).

    The annotation stays loose: Kedro resolves hints at run time, and matplotlib is imported as it draws.
    """
    return figures.fan_chart(predictions, features, config)


def explain_network(
    checkpoint: Checkpoint, features: pd.DataFrame, splits: pd.DataFrame, config: EvaluateConfig
) -> Json:
    """What the network uses, at validation anchors; `evaluate.explain_anchors=0` leaves it out."""
    from nqcast.forecast.explain import explain

    return explain(checkpoint, features, positions(splits, "validation"), config)


def write_report(
    evidence: Any, scores: Json, history: list[Json], explanation: Json, run_details: dict[str, str]
) -> str:
    """One self-contained page: better than the baselines, by how much, how sure, calibrated, and when it fails."""
    from nqcast.evaluation.comparison import Scores
    from nqcast.report.report import render_report

    return render_report(evidence, cast(Scores, scores), history, explanation, run_details)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                predict_test,
                inputs=["checkpoint", "calibration", "features", "splits", "params:evaluate"],
                outputs=["predictions", "test_uses"],
                name="predict_test",
            ),
            Node(
                calibrate_test,
                inputs=["predictions", "calibration", "checkpoint"],
                outputs="calibrated_predictions",
                name="calibrate_test",
            ),
            Node(
                score,
                inputs=[
                    *("predictions", "calibrated_predictions", "checkpoint", "features", "splits"),
                    *("true_quantiles", "test_uses", "params:evaluate"),
                ],
                outputs=["scores", "evidence"],
                name="score",
            ),
            Node(
                draw_fan_chart,
                inputs=["predictions", "features", "params:evaluate"],
                outputs="fan_chart",
                name="draw_fan_chart",
            ),
            Node(
                explain_network,
                inputs=["checkpoint", "features", "splits", "params:evaluate"],
                outputs="explanation",
                name="explain_network",
            ),
            Node(
                write_report,
                inputs=["evidence", "scores", "history", "explanation", "run_details"],
                outputs="report",
                name="write_report",
            ),
        ]
    )

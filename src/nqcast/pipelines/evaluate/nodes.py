"""The verdict on the test split: forecasts, scores beside the baselines, one fan chart."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nqcast.evaluation.config import EvaluateConfig


def predict_test(
    checkpoint: dict[str, Any],
    calibration: dict[str, Any],
    features: pd.DataFrame,
    splits: pd.DataFrame,
    config: EvaluateConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    """Forecasts at every test anchor, raw and calibrated, and the record that the test split was used."""
    from nqcast.data.splits import positions
    from nqcast.evaluation.calibrated import calibrated_frame
    from nqcast.evaluation.calibration import ConformalCalibration
    from nqcast.evaluation.predict import predict_frame
    from nqcast.evaluation.use_count import use_record

    fingerprint, levels = checkpoint["metadata"]["fingerprint"], tuple(checkpoint["metadata"]["quantiles"])
    ConformalCalibration.from_state(calibration, fingerprint)  # refuse a mismatched pair before the forecasts are made
    predictions = predict_frame(checkpoint, features, positions(splits, "test"), config)
    calibrated = calibrated_frame(predictions, calibration, fingerprint, levels)
    return predictions, calibrated, use_record(checkpoint, predictions, config)


def score(
    predictions: pd.DataFrame,
    calibrated_predictions: pd.DataFrame,
    checkpoint: dict[str, Any],
    features: pd.DataFrame,
    splits: pd.DataFrame,
    true_quantiles: Any,
    test_uses: list[dict[str, Any]],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Scores of the model and of every baseline on the same anchors; the text of the table ends the run."""
    from nqcast.data.config import HORIZONS
    from nqcast.data.splits import positions
    from nqcast.evaluation.calibrated import quantiles_by_row
    from nqcast.evaluation.forecasts import as_arrays
    from nqcast.evaluation.verdict import MODEL, baseline_quantiles, verdict

    train, levels = positions(splits, "train"), tuple(checkpoint["metadata"]["quantiles"])
    anchors = as_arrays(predictions, levels, tuple(HORIZONS))
    forecasts = baseline_quantiles(features, train, anchors.ts, levels, config)
    forecasts |= {MODEL: anchors.quantiles, **quantiles_by_row(calibrated_predictions, levels)}
    scores = verdict(anchors, forecasts, true_quantiles, levels, config)
    scores["text"] += f"\n\nTimes that the test split has been scored, this one included: {len(test_uses)}"
    return {**scores, "test_uses": len(test_uses)}


def draw_fan_chart(predictions: pd.DataFrame, features: pd.DataFrame, config: EvaluateConfig) -> Any:
    """Forecast fans over one day of the test split (a matplotlib Figure).

    The annotation stays loose: Kedro resolves hints at run time, and matplotlib is imported only here.
    """
    from nqcast.evaluation.figures import fan_chart

    return fan_chart(predictions, features, config)


def write_report(
    predictions: pd.DataFrame,
    calibrated_predictions: pd.DataFrame,
    features: pd.DataFrame,
    splits: pd.DataFrame,
    checkpoint: dict[str, Any],
    history: list[dict[str, Any]],
    test_uses: list[dict[str, Any]],
    config: EvaluateConfig,
) -> str:
    """One self-contained page: better than the baselines, by how much, how sure, calibrated, and when it fails."""
    from nqcast.data.splits import positions
    from nqcast.evaluation.evidence import Evidence
    from nqcast.evaluation.report import render_report

    train, metadata = positions(splits, "train"), checkpoint["metadata"]
    uses = len(test_uses)
    return render_report(
        Evidence(predictions, features, train, metadata, history, uses, config, calibrated_predictions)
    )

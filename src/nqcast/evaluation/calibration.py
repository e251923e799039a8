"""The calibration that belongs to a checkpoint, and the forecasts it makes: offline (conformal) and online.

Both start from the same validation anchors: the conformal offsets are fitted on them, the online ones have run through
them from zero and go on from there, an outcome counting only once its horizon has passed. Online offsets that begin at
the conformal ones cost more: at long horizons those hold the drift of two months.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import HORIZONS
from nqcast.data.clock import utc_nanoseconds
from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration, OnlineCalibration
from nqcast.evaluation.coverage import render_coverage
from nqcast.evaluation.frames import Forecasts, FrameStream, as_arrays
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.evaluation.paths import FEWEST, PathCopula
from nqcast.storage.checkpoint import Checkpoint, Json

RAW, CONFORMAL, ONLINE = "model", "model_conformal", "model_online"


def fit_calibration(
    anchors: Forecasts, levels: Sequence[float], checkpoint: Checkpoint, config: EvaluateConfig
) -> Json:
    """Calibration of a forecaster from its forecasts of the validation anchors, as JSON-able values.

    Args:
        anchors: forecasts and outcomes that no weight, scale or constant was fitted on.
        levels: probabilities of the quantiles, ascending.
        checkpoint: the forecaster; the calibration names its weights, and whoever uses it with others is refused.
        config: `conformal`, which offsets are fitted, and `online_rate`, the step of the online calibration.

    Returns:
        `ConformalCalibration.state()` with online_rate and online_offsets, anchors (count, first, last), coverage
        before and after on the same anchors {row: {horizon: {q05: …}}}, copula (`PathCopula.state()`), and text.
    """
    horizons = tuple(HORIZONS)
    symmetric = config.conformal == "symmetric"
    conformal = ConformalCalibration(levels, horizons, checkpoint.weights_sha256, symmetric=symmetric)
    conformal.fit(anchors.quantiles, anchors.targets, anchors.scale)
    online = OnlineCalibration(levels, tuple(HORIZONS.values()), config.online_rate)
    online.run(_stamps(anchors), anchors.quantiles, anchors.targets, anchors.scale)
    state = conformal.state() | {"online_rate": online.rate, "online_offsets": online.offset_HQ.tolist()}
    state["checkpoint"] = checkpoint.metadata.fingerprint
    rows = {RAW: anchors.quantiles, CONFORMAL: conformal.apply(anchors.quantiles, anchors.scale)}
    state["copula"] = _copula_state(anchors, rows[CONFORMAL], levels)
    names = [level_name(tau) for tau in levels]
    coverage = {
        row: {
            horizon: dict(zip(names, map(float, shares), strict=True))
            for horizon, shares in zip(horizons, metrics.coverage_by_level(q, anchors.targets, levels), strict=True)
        }
        for row, q in rows.items()
    }
    counted = {"count": len(anchors.ts), "first": f"{anchors.ts.iloc[0]}", "last": f"{anchors.ts.iloc[-1]}"}
    heading = "Outcomes at or below each quantile less its level, points, on the validation anchors"
    text = render_coverage(rows, anchors.targets, levels, horizons, heading)
    return {**state, "anchors": counted, "coverage": coverage, "text": text}


def _copula_state(anchors: Forecasts, quantiles_NHQ: Floats, levels: Sequence[float]) -> Json | None:
    """Joint ranks within the calibrated forecasts; None where too few anchors have an outcome at every horizon."""
    if np.isfinite(anchors.targets).all(axis=1).sum() < FEWEST:
        return None
    return PathCopula(levels, tuple(HORIZONS)).fit(quantiles_NHQ, anchors.targets, anchors.scale).state()


def calibrated_quantiles(anchors: Forecasts, state: Json, weights: str, levels: Sequence[float]) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of the offline and of the online calibration at anchors in time order.

    Raises:
        ValueError: the calibration was fitted for other weights, or is of other levels.
    """
    conformal = ConformalCalibration.from_state(state, weights)
    if conformal.levels != tuple(levels) or conformal.horizons != tuple(HORIZONS):
        raise ValueError(
            f"expected a calibration of levels {list(levels)} at {list(HORIZONS)}, found {list(conformal.levels)} at "
            f"{list(conformal.horizons)}: run the train pipeline again"
        )
    online = OnlineCalibration(levels, tuple(HORIZONS.values()), state["online_rate"])
    online.offset_HQ = np.asarray(state["online_offsets"], dtype=float)
    return {
        CONFORMAL: conformal.apply(anchors.quantiles, anchors.scale),
        ONLINE: online.run(_stamps(anchors), anchors.quantiles, anchors.targets, anchors.scale),
    }


def _stamps(anchors: Forecasts) -> NDArray[np.datetime64]:
    return np.asarray(utc_nanoseconds(anchors.ts)).astype("datetime64[ns]")


def calibrated_frame(predictions: pd.DataFrame, state: Json, weights: str, levels: Sequence[float]) -> pd.DataFrame:
    """The predictions frame again, once per calibration: `forecast` says which (model_conformal, model_online)."""
    return pd.concat(calibrated_frames(predictions, state, weights, levels), ignore_index=True)


def calibrated_frames(
    predictions: pd.DataFrame, state: Json, weights: str, levels: Sequence[float], rows: int = 100_000
) -> FrameStream:
    """The rows of `calibrated_frame`, at most `rows` at a time; an unfitting calibration is refused at once."""
    anchors = as_arrays(predictions, levels, tuple(HORIZONS))
    by_name = calibrated_quantiles(anchors, state, weights, levels)
    ordered, names = in_anchor_order(predictions), [level_name(tau) for tau in levels]

    def frames() -> Iterator[pd.DataFrame]:
        for name, quantiles_NHQ in by_name.items():
            values = quantiles_NHQ.reshape(-1, len(names))
            for start in range(0, len(ordered), rows):
                frame = ordered.iloc[start : start + rows].copy()
                frame[names] = values[start : start + rows]
                yield frame.assign(forecast=pd.array([name], dtype="string").take(np.zeros(len(frame), dtype=int)))

    return FrameStream(frames)


def quantiles_by_row(frame: pd.DataFrame, levels: Sequence[float]) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of each `forecast` in a frame that holds several, anchors in time order."""
    parts = frame.groupby("forecast", sort=False)
    return {str(name): as_arrays(part, levels, tuple(HORIZONS)).quantiles for name, part in parts}


def in_anchor_order(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows by time and then by horizon, as `forecasts.as_arrays` reads them."""
    order = predictions["horizon"].map({name: h for h, name in enumerate(HORIZONS)}).astype(int)
    rows = np.lexsort([order.to_numpy(), utc_nanoseconds(predictions["ts"])])
    if (np.diff(rows) == 1).all():
        return predictions.reset_index(drop=True)
    return predictions.iloc[rows].reset_index(drop=True)

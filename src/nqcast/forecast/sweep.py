"""Forecasts at every anchor of a history, streamed: for backtests and for years of bars."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from nqcast.data.splits import anchor_rows
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import FrameStream, predictions_frame
from nqcast.forecast.freshness import ForecastRefusedError
from nqcast.forecast.predictor import CHUNK_ANCHORS, Predictor

if TYPE_CHECKING:
    from nqcast.forecast.forecaster import Forecaster


def sweep(forecaster: Forecaster, features: pd.DataFrame, chunk: int = CHUNK_ANCHORS) -> FrameStream:
    """Forecasts at every anchor of a feature table, `chunk` anchors a frame; see `Forecaster.sweep`.

    Scale, windows and model are made once; refusals come here, not while the stream is read.
    """
    context, warmup = forecaster.model.config.context, forecaster.config.min_bars
    positions = np.flatnonzero(anchor_rows(features, context, warmup))
    if not len(positions):
        raise ForecastRefusedError(
            f"expected bars with {max(context, warmup)} five-minute bars before them and a horizon that ends in their "
            f"session, found none among {len(features)}: bring a longer history, or lower forecast.min_bars"
        )
    batch_size = EvaluateConfig().batch_size
    predictor = Predictor(forecaster.model, forecaster.scale, features, batch_size)
    horizons = list(forecaster.metadata["horizons"])

    def frames() -> Iterator[pd.DataFrame]:
        for rows, quantiles_NHQ, scale_NH in predictor.stream(positions, chunk):
            if forecaster.calibration is not None:
                quantiles_NHQ = forecaster.calibration.apply(quantiles_NHQ, scale_NH)
            yield predictions_frame(features, rows, quantiles_NHQ, scale_NH, forecaster.levels, horizons)

    return FrameStream(frames)

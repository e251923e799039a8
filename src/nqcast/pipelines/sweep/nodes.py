"""Forecasts at every bar of a history; torch is imported where it is used."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nqcast.forecast.config import ForecastConfig
from nqcast.market.config import IngestConfig


def sweep_forecasts(
    raw_bars: pd.DataFrame,
    checkpoint: dict[str, Any],
    calibration: dict[str, Any],
    config: ForecastConfig,
    ingest: IngestConfig,
) -> Any:
    """Calibrated forecasts at every anchor of the bars, made while they are written (a FrameStream)."""
    from nqcast.forecast.forecaster import Forecaster

    return Forecaster(checkpoint, calibration, config, ingest).sweep(raw_bars)

"""From bars and a checkpoint to quantiles from now, a picture and a page, or to forecasts at every bar of a history.

raw_bars, checkpoint, calibration → forecast, its summary, chart and page; or sweep.
"""

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig
from nqcast.forecast.config import ForecastConfig
from nqcast.market.config import IngestConfig
from nqcast.report import figures
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def make_forecast(
    raw_bars: pd.DataFrame,
    checkpoint: Checkpoint,
    calibration: Json,
    config: ForecastConfig,
    ingest: IngestConfig,
    features: FeaturesConfig,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, Json]:
    """One row per horizon and level, the bars before it, joint paths, and a summary whose text ends the run.

    ValueError for a calibration of another checkpoint, and for bars that carry no forecast.
    """
    from nqcast.forecast.loading import as_asked
    from nqcast.forecast.text import summary

    issued = as_asked(checkpoint, ingest, features, calibration, config).issue(raw_bars)
    return issued.forecast, issued.recent, issued.paths, summary(issued)


def sweep_forecasts(
    raw_bars: pd.DataFrame,
    checkpoint: Checkpoint,
    calibration: Json,
    config: ForecastConfig,
    ingest: IngestConfig,
    features: FeaturesConfig,
) -> tuple[object, Json]:
    """Calibrated forecasts at every anchor of the bars, made while they are written (a FrameStream), and how many."""
    from nqcast.forecast.loading import as_asked

    maker = as_asked(checkpoint, ingest, features, calibration, config)
    table = maker.features(maker.grid(raw_bars))
    rows = maker.sweep_rows(table)
    issued = table["ts"].iloc[rows] + maker.spacing.bar
    first, last = (f"{issued.iloc[row]:%Y-%m-%d %H:%M}" for row in (0, -1))
    counted = f"{len(issued):,} forecasts of {len(maker.metadata.horizons)} horizons, issued {first} to {last} UTC."
    return maker.sweep_table(table, rows=rows), {"text": "", "headline": [counted]}


def draw_forecast(forecast: pd.DataFrame, recent: pd.DataFrame) -> object:
    """Recent price and the fan (a matplotlib Figure)."""
    return figures.draw_forecast(forecast, recent)


def write_forecast_page(forecast: pd.DataFrame, recent: pd.DataFrame) -> str:
    """Recent price and the fan as an interactive page that needs no network."""
    from nqcast.forecast.page import forecast_page

    return forecast_page(forecast, recent)


_INPUTS = ["raw_bars", "checkpoint", "calibration", "params:forecast", "params:ingest", "params:features"]


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                make_forecast,
                inputs=_INPUTS,
                outputs=["forecast", "recent_bars", "forecast_paths", "forecast_summary"],
                name="make_forecast",
            ),
            Node(draw_forecast, inputs=["forecast", "recent_bars"], outputs="forecast_chart", name="draw_forecast"),
            Node(
                write_forecast_page,
                inputs=["forecast", "recent_bars"],
                outputs="forecast_page",
                name="write_forecast_page",
            ),
        ]
    )


def create_sweep_pipeline() -> Pipeline:
    return Pipeline([Node(sweep_forecasts, inputs=_INPUTS, outputs=["sweep", "sweep_summary"], name="sweep_forecasts")])

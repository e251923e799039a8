"""The `train_many` pipeline, and `forecast_many`."""

from nqcast.pipelines.train_many.pipeline import create_forecast_pipeline, create_pipeline

__all__ = ["create_forecast_pipeline", "create_pipeline"]

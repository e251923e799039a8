"""The `forecast` and `sweep` pipelines."""

from nqcast.pipelines.forecast.pipeline import create_pipeline, create_sweep_pipeline

__all__ = ["create_pipeline", "create_sweep_pipeline"]

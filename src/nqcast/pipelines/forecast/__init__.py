"""The `forecast` pipeline."""

from nqcast.pipelines.forecast.pipeline import create_pipeline

__all__ = ["create_pipeline"]

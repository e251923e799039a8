"""The `evaluate` pipeline."""

from nqcast.pipelines.evaluate.pipeline import create_pipeline

__all__ = ["create_pipeline"]

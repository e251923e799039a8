"""The `sweep` pipeline."""

from nqcast.pipelines.sweep.pipeline import create_pipeline

__all__ = ["create_pipeline"]

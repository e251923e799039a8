"""The `update` pipeline."""

from nqcast.pipelines.update.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""The `features_many` pipeline."""

from nqcast.pipelines.features_many.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""The `train` pipeline."""

from nqcast.pipelines.train.pipeline import create_pipeline

__all__ = ["create_pipeline"]

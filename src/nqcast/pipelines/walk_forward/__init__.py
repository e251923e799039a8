"""The `walk_forward` pipeline."""

from nqcast.pipelines.walk_forward.pipeline import create_pipeline

__all__ = ["create_pipeline"]

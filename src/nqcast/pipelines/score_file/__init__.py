"""The `score_file` pipeline."""

from nqcast.pipelines.score_file.pipeline import create_pipeline

__all__ = ["create_pipeline"]

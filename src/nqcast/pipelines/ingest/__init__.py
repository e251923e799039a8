"""The `ingest` pipeline."""

from nqcast.pipelines.ingest.pipeline import create_pipeline

__all__ = ["create_pipeline"]

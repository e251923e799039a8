"""The `monitor` pipeline."""

from nqcast.pipelines.monitor.pipeline import create_pipeline

__all__ = ["create_pipeline"]

"""The `walk_forward`, `register` and `verdict` pipelines."""

from nqcast.pipelines.walk_forward.pipeline import create_pipeline, create_register_pipeline, create_verdict_pipeline

__all__ = ["create_pipeline", "create_register_pipeline", "create_verdict_pipeline"]

"""The `backtest` and `backtest_walk_forward` pipelines."""

from nqcast.pipelines.backtest.pipeline import create_pipeline, create_walk_forward_pipeline

__all__ = ["create_pipeline", "create_walk_forward_pipeline"]

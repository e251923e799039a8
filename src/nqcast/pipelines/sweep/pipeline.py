"""raw_bars, checkpoint, calibration → sweep."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.sweep import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and the output of forecasts at every bar of a history."""
    inputs = ["raw_bars", "checkpoint", "calibration", "params:forecast", "params:ingest"]
    return Pipeline([Node(nodes.sweep_forecasts, inputs=inputs, outputs="sweep", name="sweep_forecasts")])

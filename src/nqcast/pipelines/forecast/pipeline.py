"""raw_bars, checkpoint, calibration → forecast, its summary, chart and page; or sweep."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.forecast import nodes

_INPUTS = ["raw_bars", "checkpoint", "calibration", "params:forecast", "params:ingest", "params:features"]


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of a forecast from the newest bars."""
    return Pipeline(
        [
            Node(
                nodes.make_forecast,
                inputs=_INPUTS,
                outputs=["forecast", "recent_bars", "forecast_paths", "forecast_summary"],
                name="make_forecast",
            ),
            Node(
                nodes.draw_forecast,
                inputs=["forecast", "recent_bars"],
                outputs="forecast_chart",
                name="draw_forecast",
            ),
            Node(
                nodes.write_forecast_page,
                inputs=["forecast", "recent_bars"],
                outputs="forecast_page",
                name="write_forecast_page",
            ),
        ]
    )


def create_sweep_pipeline() -> Pipeline:
    """Name the inputs and the output of forecasts at every bar of a history."""
    return Pipeline([Node(nodes.sweep_forecasts, inputs=_INPUTS, outputs="sweep", name="sweep_forecasts")])

"""raw_bars, checkpoint, calibration → forecast, its summary, chart and page."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.forecast import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of a forecast from the newest bars."""
    return Pipeline(
        [
            Node(
                nodes.make_forecast,
                inputs=["raw_bars", "checkpoint", "calibration", "params:forecast", "params:ingest"],
                outputs=["forecast", "recent_bars", "forecast_summary"],
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

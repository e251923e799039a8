"""forecast_file, features → file_predictions, file_scores, test_uses."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.score_file import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of scoring a file of forecasts."""
    return Pipeline(
        [
            Node(
                nodes.place_forecasts,
                inputs=["forecast_file", "features", "params:split", "params:score_file"],
                outputs=["file_predictions", "file_splits", "test_uses"],
                name="place_forecasts",
            ),
            Node(
                nodes.score_forecasts,
                inputs=[
                    *("file_predictions", "file_splits", "features"),
                    *("true_quantiles", "test_uses", "params:evaluate"),
                ],
                outputs="file_scores",
                name="score_forecasts",
            ),
        ]
    )

"""checkpoint, calibration, features → predictions (raw and calibrated), scores, fan_chart, explanation, report."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.evaluate import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of the scores of the test split."""
    return Pipeline(
        [
            Node(
                nodes.predict_test,
                inputs=["checkpoint", "calibration", "features", "splits", "params:evaluate"],
                outputs=["predictions", "test_uses"],
                name="predict_test",
            ),
            Node(
                nodes.calibrate_test,
                inputs=["predictions", "calibration", "checkpoint"],
                outputs="calibrated_predictions",
                name="calibrate_test",
            ),
            Node(
                nodes.score,
                inputs=[
                    *("predictions", "calibrated_predictions", "checkpoint", "features", "splits"),
                    *("true_quantiles", "test_uses", "params:evaluate"),
                ],
                outputs=["scores", "evidence"],
                name="score",
            ),
            Node(
                nodes.draw_fan_chart,
                inputs=["predictions", "features", "params:evaluate"],
                outputs="fan_chart",
                name="draw_fan_chart",
            ),
            Node(
                nodes.explain_network,
                inputs=["checkpoint", "features", "splits", "params:evaluate"],
                outputs="explanation",
                name="explain_network",
            ),
            Node(
                nodes.write_report,
                inputs=["evidence", "scores", "history", "explanation", "run_details"],
                outputs="report",
                name="write_report",
            ),
        ]
    )

"""raw_bars, and what the last run left → bars, checkpoint, calibration, update_report."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.update import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of a refit on new bars."""
    return Pipeline(
        [
            Node(
                nodes.extend_bars,
                inputs=["last_bars", "raw_bars", "params:ingest", "params:features"],
                outputs="bars",
                name="extend_bars",
            ),
            Node(
                nodes.update_forecaster,
                inputs=[
                    *("bars", "last_checkpoint", "last_calibration", "run_directory", "params:features"),
                    *("params:split", "params:ingest", "params:update", "params:evaluate"),
                ],
                outputs=["checkpoint", "calibration", "update_report"],
                name="update_forecaster",
            ),
        ]
    )

"""raw_bars, and what training left → checks, rolling figures, report, chart."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.monitor import nodes


def create_pipeline() -> Pipeline:
    """Name the comparison; nothing that training reads or wrote is an output."""
    return Pipeline(
        [
            Node(
                nodes.read_newest,
                inputs=["raw_bars", "checkpoint", "params:ingest", "params:features"],
                outputs="monitored_features",
                name="read_newest",
            ),
            Node(
                nodes.compare_with_training,
                inputs=[
                    *("monitored_features", "features", "splits", "checkpoint", "calibration"),
                    *("params:split", "params:monitor", "params:evaluate"),
                ],
                outputs=["monitor_checks", "monitor_rolling", "monitor_report", "test_uses"],
                name="compare_with_training",
            ),
            Node(
                nodes.draw_monitor,
                inputs=["monitor_checks", "monitor_rolling"],
                outputs="monitor_chart",
                name="draw_monitor",
            ),
        ]
    )

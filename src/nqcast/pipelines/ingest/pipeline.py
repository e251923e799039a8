"""raw_bars → bars, roll_ledger, quarantine, data_report."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.ingest import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of ingest."""
    return Pipeline(
        [
            Node(
                nodes.ingest_bars,
                inputs=["raw_bars", "params:ingest", "params:features"],
                outputs=["bars", "roll_ledger", "quarantine", "data_report"],
                name="ingest_bars",
            )
        ]
    )

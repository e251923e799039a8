"""symbol_files → one partition of features per symbol."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.features_many import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of features by symbol."""
    return Pipeline(
        [
            Node(
                nodes.build_symbol_features,
                inputs=[
                    *("symbol_files", "finished_symbols"),
                    *("params:ingest", "params:features", "params:instruments", "params:partitions"),
                    "params:horizons",
                ],
                outputs=["symbol_features", "symbol_log"],
                name="build_symbol_features",
            )
        ]
    )

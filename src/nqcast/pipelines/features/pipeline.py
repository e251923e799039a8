"""bars → features."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.features import nodes


def create_pipeline() -> Pipeline:
    """Name the inputs and outputs of the feature table."""
    return Pipeline(
        [
            Node(
                nodes.make_features,
                inputs=["bars", "params:features", "params:horizons", "params:ingest"],
                outputs="features",
                name="make_features",
            )
        ]
    )

"""features → splits → scale → checkpoint, history → validation_metrics → calibration."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.train import nodes


def create_pipeline() -> Pipeline:
    """Name the chain: feature loading, dataset splitting, scale, training, validation metrics, calibration."""
    return Pipeline(
        [
            Node(
                nodes.load_features,
                inputs=["features", "params:ingest", "params:horizons"],
                outputs=["feature_table", "data_card"],
                name="load_features",
            ),
            Node(nodes.split_dataset, inputs=["feature_table", "params:split"], outputs="splits", name="split_dataset"),
            Node(
                nodes.fit_scale,
                inputs=["feature_table", "splits", "params:scale", "params:quantiles"],
                outputs="scale",
                name="fit_scale",
            ),
            Node(
                nodes.train_model,
                inputs=[
                    *("feature_table", "splits", "scale", "data_card", "run_directory"),
                    *("params:model", "params:train", "params:quantiles"),
                ],
                outputs=["checkpoint", "history"],
                name="train_model",
            ),
            Node(
                nodes.validation_metrics,
                inputs=["checkpoint", "feature_table", "splits", "params:evaluate"],
                outputs="validation_metrics",
                name="validation_metrics",
            ),
            Node(
                nodes.fit_calibration,
                inputs=["checkpoint", "feature_table", "splits", "validation_metrics", "params:evaluate"],
                outputs="calibration",
                name="fit_calibration",
            ),
        ]
    )

"""features → one partition per fold → walk_forward_predictions, walk_forward_scores."""

from kedro.pipeline import Node, Pipeline

from nqcast.experiments.config import ExperimentSettings
from nqcast.pipelines.walk_forward import nodes


def create_pipeline() -> Pipeline:
    """Name the loop over the folds and what joins them."""
    settings = ("split", "scale", "model", "train", "quantiles", "evaluate")
    return Pipeline(
        [
            Node(
                ExperimentSettings,
                inputs={name: f"params:{name}" for name in settings},
                outputs="walk_forward_settings",
                name="settle_walk_forward",
            ),
            Node(
                nodes.run_folds,
                inputs=[
                    *("features", "walk_forward_settings", "params:walk_forward"),
                    *("finished_folds", "fold_directory"),
                ],
                outputs=["folds", "walk_forward_log"],
                name="run_folds",
            ),
            Node(
                nodes.join_folds,
                inputs=["folds", "walk_forward_log", "params:quantiles", "params:evaluate"],
                outputs=["walk_forward_predictions", "walk_forward_scores"],
                name="join_folds",
            ),
        ]
    )

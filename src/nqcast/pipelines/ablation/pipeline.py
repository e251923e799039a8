"""features → ablation_scores, from validation alone."""

from kedro.pipeline import Node, Pipeline

from nqcast.experiments.config import ExperimentSettings
from nqcast.pipelines.ablation import nodes


def create_pipeline() -> Pipeline:
    """Name the comparison of the variants."""
    settings = ("split", "scale", "model", "train", "quantiles", "evaluate")
    return Pipeline(
        [
            Node(
                ExperimentSettings,
                inputs={name: f"params:{name}" for name in settings},
                outputs="ablation_settings",
                name="settle_ablation",
            ),
            Node(
                nodes.run_ablation,
                inputs=["features", "ablation_settings", "params:ablation", "ablation_directory"],
                outputs="ablation_scores",
                name="run_ablation",
            ),
        ]
    )

"""features → ablation_scores, from validation alone."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.ablation import nodes


def create_pipeline() -> Pipeline:
    """Name the comparison of the variants."""
    settings = ("split", "scale", "model", "train", "quantiles", "evaluate", "ablation")
    return Pipeline(
        [
            Node(
                nodes.settle_ablation,
                inputs=[f"params:{name}" for name in settings],
                outputs="ablation_settings",
                name="settle_ablation",
            ),
            Node(
                nodes.run_ablation,
                inputs=["features", "ablation_settings", "ablation_directory"],
                outputs="ablation_scores",
                name="run_ablation",
            ),
        ]
    )

"""features → trials → tuning_scores, tuned_parameters, tuning_chart, from validation alone."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.tune import nodes


def create_pipeline() -> Pipeline:
    """Name the search and what comes out of it."""
    settings = ("split", "scale", "model", "train", "quantiles", "tune")
    return Pipeline(
        [
            Node(
                nodes.settle_tuning,
                inputs=[f"params:{name}" for name in settings],
                outputs="tune_settings",
                name="settle_tuning",
            ),
            Node(
                nodes.run_trials,
                inputs=["features", "tune_settings", "tune_directory"],
                outputs="tuning_scores",
                name="run_trials",
            ),
            Node(nodes.write_best, inputs="tuning_scores", outputs="tuned_parameters", name="write_best"),
            Node(
                nodes.draw_tuning, inputs=["tuning_scores", "params:tune"], outputs="tuning_chart", name="draw_tuning"
            ),
        ]
    )

"""features → trials → tuning_scores, tuned_parameters and charts, from validation alone."""

from kedro.pipeline import Node, Pipeline

from nqcast.pipelines.tune import nodes


def create_pipeline() -> Pipeline:
    """Name the search and what comes out of it."""
    settings = [f"params:{name}" for name in ("split", "scale", "model", "train", "quantiles", "tune")]
    return Pipeline(
        [
            Node(
                nodes.run_trials,
                inputs=["features", *settings, "tune_directory"],
                outputs="tuning_scores",
                name="run_trials",
            ),
            Node(nodes.write_best, inputs="tuning_scores", outputs="tuned_parameters", name="write_best"),
            Node(
                nodes.draw_tuning,
                inputs=["tuning_scores", "params:tune"],
                outputs=["tuning_history_chart", "tuning_chart"],
                name="draw_tuning",
            ),
        ]
    )

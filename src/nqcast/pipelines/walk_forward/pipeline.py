"""features → one partition per fold → walk_forward_predictions, walk_forward_scores."""

from kedro.pipeline import Node, Pipeline

from nqcast.experiments.config import ExperimentSettings
from nqcast.pipelines.walk_forward import nodes

_SETTINGS = ("split", "scale", "model", "train", "quantiles", "evaluate")


def create_pipeline() -> Pipeline:
    """Name the loop over the folds and what joins them."""
    return Pipeline(
        [
            _settle("settle_walk_forward", "walk_forward_settings"),
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
                outputs=["walk_forward_predictions", "walk_forward_scores", "walk_forward_uses"],
                name="join_folds",
            ),
        ]
    )


def _settle(name: str, output: str) -> Node:
    return Node(ExperimentSettings, inputs={key: f"params:{key}" for key in _SETTINGS}, outputs=output, name=name)


def create_register_pipeline() -> Pipeline:
    """Name the writing of a registration."""
    return Pipeline(
        [
            _settle("settle_registration", "register_settings"),
            Node(
                nodes.register,
                inputs=["features", "register_settings", "params:verdict"],
                outputs="registration",
                name="register_question",
            ),
        ]
    )


def create_verdict_pipeline() -> Pipeline:
    """Name the refusal, the folds and what joins them."""
    return Pipeline(
        [
            _settle("settle_verdict", "asked_settings"),
            Node(
                nodes.open_verdict,
                inputs=["registration", "verdict_uses_so_far", "features", "asked_settings", "params:verdict"],
                outputs=["verdict_settings", "verdict_folds"],
                name="open_verdict",
            ),
            Node(
                nodes.run_folds,
                inputs=["features", "verdict_settings", "verdict_folds", "finished_folds", "fold_directory"],
                outputs=["folds", "walk_forward_log"],
                name="run_verdict_folds",
            ),
            Node(
                nodes.close_verdict,
                inputs=["folds", "walk_forward_log", "verdict_settings", "registration"],
                outputs=["verdict_predictions", "verdict_scores", "verdict_uses"],
                name="close_verdict",
            ),
        ]
    )

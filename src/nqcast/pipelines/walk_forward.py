"""Folds one after the other, then one scored record; questions written down first. torch is imported where used.

features → one partition per fold → walk_forward_predictions, walk_forward_scores.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.split_uses import use_of_sessions
from nqcast.experiments.config import ExperimentSettings, VerdictConfig, WalkForwardConfig
from nqcast.experiments.folds import FoldLine, Partition, Partitions
from nqcast.experiments.registration import VERDICT, WALK_FORWARD, refuse_another, registration
from nqcast.fields import changed
from nqcast.storage.json_values import Json

logger = logging.getLogger(__name__)


def run_folds(
    features: pd.DataFrame,
    settings: ExperimentSettings,
    config: WalkForwardConfig,
    finished_folds: Partitions,
    fold_directory: Path,
) -> Iterator[tuple[dict[str, Partition], FoldLine]]:
    """Yield each fold as it ends: its partition, and its line in the log (finished, skipped or failed)."""
    from nqcast.experiments.walk_forward import WalkForward

    yield from WalkForward.of(settings, config).run(features, finished_folds, fold_directory)


def join_folds(
    folds: Partitions, log: list[FoldLine], quantiles: list[float], evaluate: EvaluateConfig
) -> tuple[pd.DataFrame, Json, Json]:
    """All out-of-sample forecasts as one frame, their scores, and a line that says which sessions were scored."""
    from nqcast.experiments import walk_forward

    frame, entries = walk_forward.join_folds(folds, log)
    scores = walk_forward.score_folds(frame, entries, tuple(quantiles), evaluate)
    return frame, scores, use_of_sessions(WALK_FORWARD, frame)


def register(features: pd.DataFrame, settings: ExperimentSettings, config: VerdictConfig) -> Json:
    """Settings, code, bars and the question, under one name; nothing is trained or scored."""
    written = registration(features, settings, config)
    logger.info("registered %s: sessions %s to %s, %s", written["id"], *written["sessions"], written["question"])
    return written


def open_verdict(
    registered: Json, uses: list[Json], features: pd.DataFrame, settings: ExperimentSettings, config: VerdictConfig
) -> tuple[ExperimentSettings, WalkForwardConfig]:
    """The registered settings for the folds, refused where they are others or were scored before."""
    refuse_another(registered, registration(features, settings, config), uses)
    evaluate = changed(settings.evaluate, {"baselines": config.baselines})
    return changed(settings, {"evaluate": evaluate}), config.folds


def close_verdict(
    folds: Partitions, log: list[FoldLine], settings: ExperimentSettings, registered: Json
) -> tuple[pd.DataFrame, Json, Json]:
    """All forecasts as one frame, their scores under the registered question, and the line of this use."""
    from nqcast.experiments import walk_forward

    frame, entries = walk_forward.join_folds(folds, log)
    scores = walk_forward.score_folds(frame, entries, settings.quantiles, settings.evaluate)
    text = f"{registered['question']}\nregistered {registered['registered']} as {registered['id']}\n\n{scores['text']}"
    use = use_of_sessions(VERDICT, frame, registered["id"])
    return frame, {**scores, "registration": registered, "text": text}, use


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            _settle("settle_walk_forward", "walk_forward_settings"),
            Node(
                run_folds,
                inputs=[
                    *("features", "walk_forward_settings", "params:walk_forward"),
                    *("finished_folds", "fold_directory"),
                ],
                outputs=["folds", "walk_forward_log"],
                name="run_folds",
            ),
            Node(
                join_folds,
                inputs=["folds", "walk_forward_log", "params:quantiles", "params:evaluate"],
                outputs=["walk_forward_predictions", "walk_forward_scores", "walk_forward_uses"],
                name="join_folds",
            ),
        ]
    )


def _settle(name: str, output: str) -> Node:
    inputs = {key: f"params:{key}" for key in ExperimentSettings.model_fields}
    return Node(ExperimentSettings, inputs=inputs, outputs=output, name=name)


def create_register_pipeline() -> Pipeline:
    return Pipeline(
        [
            _settle("settle_registration", "register_settings"),
            Node(
                register,
                inputs=["features", "register_settings", "params:verdict"],
                outputs="registration",
                name="register_question",
            ),
        ]
    )


def create_verdict_pipeline() -> Pipeline:
    return Pipeline(
        [
            _settle("settle_verdict", "asked_settings"),
            Node(
                open_verdict,
                inputs=["registration", "verdict_uses_so_far", "features", "asked_settings", "params:verdict"],
                outputs=["verdict_settings", "verdict_folds"],
                name="open_verdict",
            ),
            Node(
                run_folds,
                inputs=["features", "verdict_settings", "verdict_folds", "finished_folds", "fold_directory"],
                outputs=["folds", "walk_forward_log"],
                name="run_verdict_folds",
            ),
            Node(
                close_verdict,
                inputs=["folds", "walk_forward_log", "verdict_settings", "registration"],
                outputs=["verdict_predictions", "verdict_scores", "verdict_uses"],
                name="close_verdict",
            ),
        ]
    )

"""One node works through the trials, the others tell what they found; Optuna and torch are imported where used.

features → trials → tuning_scores, tuned_parameters and charts, from validation alone.
"""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.tuning_report import Found, run_config
from nqcast.model.config import ModelConfig
from nqcast.report import figures
from nqcast.training.config import TrainConfig


def run_trials(
    features: pd.DataFrame,
    split: SplitConfig,
    scale: ScaleConfig,
    model: ModelConfig,
    train: TrainConfig,
    quantiles: list[float],
    config: TuneConfig,
    tune_directory: Path,
) -> Found:
    """All trials of the study and the best of them; its text ends the run."""
    from nqcast.experiments.tuning import Tuning
    from nqcast.runs.recipe import Recipe

    return Tuning(split, Recipe(scale, model, train, tuple(quantiles)), config).run(features, tune_directory)


def write_best(tuning_scores: Found, run_details: dict[str, str]) -> str:
    """The best parameters as a file for `kedro run --config`."""
    return run_config(tuning_scores, run_details["Environment"].partition(";")[0])


def draw_tuning(tuning_scores: Found, config: TuneConfig) -> tuple[object, object]:
    """The history of the search, and the objective by each parameter, as figures."""
    return figures.tuning_figures(tuning_scores, config.space)


def create_pipeline() -> Pipeline:
    settings = [f"params:{name}" for name in ("split", "scale", "model", "train", "quantiles", "tune")]
    return Pipeline(
        [
            Node(
                run_trials, inputs=["features", *settings, "tune_directory"], outputs="tuning_scores", name="run_trials"
            ),
            Node(write_best, inputs=["tuning_scores", "run_details"], outputs="tuned_parameters", name="write_best"),
            Node(
                draw_tuning,
                inputs=["tuning_scores", "params:tune"],
                outputs=["tuning_history_chart", "tuning_chart"],
                name="draw_tuning",
            ),
        ]
    )

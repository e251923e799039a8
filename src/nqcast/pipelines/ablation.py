"""One node trains every variant on the same split and compares them on validation.

features → ablation_scores, from validation alone.
"""

from pathlib import Path

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.experiments.config import AblationConfig, ExperimentSettings
from nqcast.storage.json_values import Json


def run_ablation(
    features: pd.DataFrame, settings: ExperimentSettings, config: AblationConfig, ablation_directory: Path
) -> Json:
    """The table of all variants; its text ends the run."""
    from nqcast.experiments.ablation import Ablation

    return Ablation.of(settings, config).run(features, ablation_directory)


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                ExperimentSettings,
                inputs={name: f"params:{name}" for name in ExperimentSettings.model_fields},
                outputs="ablation_settings",
                name="settle_ablation",
            ),
            Node(
                run_ablation,
                inputs=["features", "ablation_settings", "params:ablation", "ablation_directory"],
                outputs="ablation_scores",
                name="run_ablation",
            ),
        ]
    )

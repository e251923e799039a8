"""One node trains every variant on the same split and compares them on validation."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nqcast.experiments.config import AblationConfig, ExperimentSettings
from nqcast.storage.checkpoint import Json


def run_ablation(
    features: pd.DataFrame, settings: ExperimentSettings, config: AblationConfig, ablation_directory: Path
) -> Json:
    """The table of all variants; its text ends the run."""
    from nqcast.data.features import check_features
    from nqcast.experiments.ablation import Ablation

    check_features(features)
    return Ablation.of(settings, config).run(features, ablation_directory)

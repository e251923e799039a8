"""Every metric of a checkpoint on the validation split, by the numpy oracle."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import make_baselines
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.forecast.predictor import predict
from nqcast.storage.checkpoint import Checkpoint

REFERENCES = ("constants", "seasonal_har")


def validation_report(
    checkpoint: Checkpoint,
    features: pd.DataFrame,
    train: Positions,
    validation: Positions,
    config: EvaluateConfig,
) -> dict[str, float]:
    """`metrics.named_metrics` of the checkpoint at the validation anchors, and its skill over two references.

    skill_<reference>_<horizon> = 1 − loss / loss of the reference fitted on the train anchors, in log-return units;
    skill_<reference> is the mean over horizons.
    """
    levels, horizons = tuple(checkpoint.metadata.quantiles), checkpoint.metadata.horizons
    quantiles, scale = predict(checkpoint, features, validation, config)
    targets = targets_at(features, validation, horizons)
    report = metrics.named_metrics(quantiles, targets, levels, horizons, scale)
    loss = metrics.mean_pinball(quantiles, targets, levels)
    for name, baseline in make_baselines(REFERENCES, levels, horizons, config.seed).items():
        reference = baseline.fit(features, train).predict(features, validation)
        skill = metrics.skill(loss, metrics.mean_pinball(reference, targets, levels))
        report |= {f"skill_{name}_{horizon}": float(s) for horizon, s in zip(horizons, skill, strict=True)}
        report[f"skill_{name}"] = float(np.mean(skill))
    return report

"""The forecasts of a profile's baselines, fitted on the train anchors."""

from __future__ import annotations

import pandas as pd

from nqcast.evaluation.baselines import make_baselines
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizons_of


def baseline_quantiles(
    features: pd.DataFrame, train: Positions, ts: pd.Series, levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of every baseline of the profile at the anchors `ts`, fitted on the train anchors."""
    positions = pd.Index(features["ts"]).get_indexer(pd.Index(ts))
    if (positions < 0).any():
        raise ValueError(
            f"expected every anchor among the features, found {(positions < 0).sum()} that are not: "
            "score with the features that the forecasts were made from"
        )
    baselines = make_baselines(config.baseline_names, levels, horizons_of(features.columns), config.seed)
    return {name: one.fit(features, train).predict(features, positions) for name, one in baselines.items()}

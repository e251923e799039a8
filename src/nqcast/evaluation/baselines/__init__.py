"""Baselines: what a forecast has to beat, fitted on the same train anchors and scored on the same test anchors.

A baseline is a subclass of `base.Baseline`; `nqcast.evaluation.config.BASELINES` names each, and the profiles are
lists of those names.
"""

import importlib
import logging
from collections.abc import Sequence

import pandas as pd

from nqcast.evaluation.baselines.base import Baseline
from nqcast.evaluation.config import BASELINES, EvaluateConfig
from nqcast.evaluation.frames import Positions, rows_of
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizons_of

log = logging.getLogger(__name__)


def make_baseline(name: str, levels: Sequence[float], horizons: Sequence[str], seed: int = 0) -> Baseline:
    """An unfitted baseline by its name; ValueError for an unknown one."""
    if name not in BASELINES:
        raise ValueError(f"expected the name of a baseline, found {name!r}: known are {', '.join(BASELINES)}")
    module, kind = BASELINES[name].split(".")
    baseline = getattr(importlib.import_module(f"{__name__}.{module}"), kind)
    assert issubclass(baseline, Baseline)
    return baseline(levels, horizons, seed)


def make_baselines(
    names: Sequence[str], levels: Sequence[float], horizons: Sequence[str], seed: int = 0
) -> dict[str, Baseline]:
    """Unfitted baselines by name, in the order asked for."""
    return {name: make_baseline(name, levels, horizons, seed) for name in names}


def baseline_quantiles(
    features: pd.DataFrame, train: Positions, ts: pd.Series, levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of every baseline of the profile at the anchors `ts`, fitted on the train anchors.

    Of the profile `real` a baseline whose library is not installed is left out, with a line; every other one is asked
    for, and the library with it.
    """
    at, quantiles = rows_of(ts, features), dict[str, Floats]()
    for name in config.baseline_names:
        try:
            quantiles |= fitted_quantiles((name,), features, train, at, levels, config.seed)
        except ModuleNotFoundError as error:
            if config.baselines != "real":
                raise
            log.warning("the table has no row %s: %s", name, error)
    return quantiles


def fitted_quantiles(
    names: Sequence[str],
    features: pd.DataFrame,
    train: Positions,
    at: Positions,
    levels: Sequence[float],
    seed: int = 0,
) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of baselines by their names at rows `at`, fitted on the train anchors."""
    baselines = make_baselines(names, levels, horizons_of(features.columns), seed)
    return {name: one.fit(features, train).predict(features, at) for name, one in baselines.items()}

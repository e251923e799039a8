"""What every baseline is: fit on train anchors, predict quantiles at any anchors."""

import importlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import pandas as pd

from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizon


class Baseline(ABC):
    """A forecaster of quantiles from the features frame.

    ``fit`` may use the targets of its anchors and any bar up to the end of their labels; ``predict`` at an anchor may
    use its bar and earlier ones only.
    """

    reach: int | None = None
    """Minutes by the clock that it can look ahead, to no close and over no break; None: any horizon."""

    def __init__(self, levels: Sequence[float], horizons: Sequence[str], seed: int = 0) -> None:
        known = [horizon(name) for name in horizons]
        other = [one.name for one in known if not one.by_clock or one.minutes > (self.reach or one.minutes)]
        if self.reach and other:
            raise ValueError(
                f"expected horizons by the clock of at most {self.reach} minutes for the baseline "
                f"{type(self).__name__}, found {other}: leave it out (evaluate.baselines=quick, or others by name)"
            )
        self.levels = tuple(levels)
        self.horizons = tuple(horizons)
        self.seed = seed

    @abstractmethod
    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Estimate from the train anchors (row positions in ``features``)."""

    @abstractmethod
    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q) in log-return units, in order along Q."""


def empirical_quantiles(values_NH: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles (H, Q) of the defined values of each horizon; ValueError where a horizon has none."""
    quantiles_HQ = np.empty((values_NH.shape[1], len(levels)))
    for h, column in enumerate(values_NH.T):
        defined = column[np.isfinite(column)]
        if defined.size < 2:
            raise ValueError(
                f"expected at least 2 defined targets at horizon {h}, found {defined.size}: use a longer train period"
            )
        quantiles_HQ[h] = np.quantile(defined, levels)
    return quantiles_HQ


def optional_library(name: str, baseline: str, extra: str = "baselines") -> Any:
    """The library's module; ModuleNotFoundError that says how to get it, or to do without, where it is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"expected the library {name.split('.')[0]} for the baseline {baseline!r}, found it not installed: "
            f"pip install 'nqcast[{extra}]', or leave the baseline out (evaluate.baselines=quick)"
        ) from error


class Constants(Baseline):
    """Unconditional quantiles; skill is measured against them."""

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Take the empirical quantiles of the train targets, which minimise the mean pinball loss there."""
        self.quantiles_HQ = empirical_quantiles(targets_at(features, positions, self.horizons), self.levels)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """The same (H, Q) quantiles at every anchor."""
        return np.broadcast_to(self.quantiles_HQ, (len(positions), *self.quantiles_HQ.shape)).copy()

"""A foundation model of time series that has seen no bar of this market: Fracast, whose weights its package ships."""

from typing import Any, Self

import numpy as np
import pandas as pd

from nqcast.data.config import ScaleConfig
from nqcast.data.seasonal_har import SeasonalHAR
from nqcast.evaluation.baselines.base import Baseline, empirical_quantiles, optional_library
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizon

AHEAD = 48  # bars
_OFFSET = 0.05  # of the usual variance, so that a bar without a move has a log


class Fracast(Baseline):
    """Log realized variance over its time of day goes in, that of the next 48 bars comes out; no weight is fitted.

    The scale of a horizon is √(Σ seasonal variance · mean of exp over the forecast quantiles) of its bars; the
    quantiles of return / scale are those of some train anchors. A forecast takes some 40 ms on a core, 24,000 anchors
    a quarter of an hour.
    """

    reach = 240
    fitted_on = 1500

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Load the weights, take the diurnal profile and the unit quantiles of train anchors."""
        self._model: Any = optional_library("fracast", "fracast", "foundation").FracastModel.from_pretrained()
        scale = SeasonalHAR(ScaleConfig(), self.levels).fit(features, positions)
        if max(horizon(name).bars(scale.spacing.minutes) for name in self.horizons) > AHEAD:
            raise ValueError(
                f"expected horizons of at most {AHEAD} bars for the baseline fracast, found bars of "
                f"{scale.spacing.minutes} minutes: leave it out"
            )
        self._profile_S = scale.profiles_PS[0]
        rows = positions[:: max(len(positions) // self.fitted_on, 1)]
        unit_NH = targets_at(features, rows, self.horizons) / self._scale(features, rows)
        self._unit_HQ = empirical_quantiles(unit_NH, self.levels)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): forecast scale times the train anchors' unit quantiles."""
        return self._scale(features, positions)[:, :, None] * self._unit_HQ

    def _scale(self, features: pd.DataFrame, rows: Positions) -> Floats:
        slot = features["bar_in_day"].to_numpy()
        active = features["traded"].to_numpy(bool) & ~features["halt"].to_numpy(bool) & (self._profile_S[slot] > 0)
        variance = features["realized_variance"].to_numpy(np.float64)[active] / self._profile_S[slot[active]]
        known, ends = np.log(variance + _OFFSET), np.cumsum(active)[rows]  # bars up to and with the anchor
        ahead_NK = np.stack([self._ahead(known[max(end - self._model.context_length, 0) : end]) for end in ends])
        step_K = np.arange(1, ahead_NK.shape[1] + 1)
        seasonal_NK = self._profile_S[(slot[rows][:, None] + step_K) % len(self._profile_S)]
        total_NK = np.cumsum(seasonal_NK * ahead_NK, axis=1)
        return np.sqrt(total_NK[:, [horizon(name).bars(1440 // len(self._profile_S)) - 1 for name in self.horizons]])

    def _ahead(self, known: np.ndarray) -> Floats:
        """Variance over its profile (K,) of the coming bars, the mean of what the model's quantiles say."""
        return np.exp(self._model.forecast(known).astype(np.float64)).mean(axis=1)

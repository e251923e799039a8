"""Constants: the train quantiles of each horizon's returns, whatever the hour and the volatility."""

from __future__ import annotations

from typing import Self

import numpy as np
import pandas as pd

from nqcast.evaluation.baselines.base import Baseline, empirical_quantiles
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats


class Constants(Baseline):
    """Unconditional quantiles; skill is measured against them."""

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Take the empirical quantiles of the train targets, which minimise the mean pinball loss there."""
        self.quantiles_HQ = empirical_quantiles(targets_at(features, positions, self.horizons), self.levels)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """The same (H, Q) quantiles at every anchor."""
        return np.broadcast_to(self.quantiles_HQ, (len(positions), *self.quantiles_HQ.shape)).copy()

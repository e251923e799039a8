"""The baselines that are the project's own scale, the diurnal profile times fewer or more predictors."""

from typing import Literal, Self

import pandas as pd

from nqcast.data.config import ScaleConfig
from nqcast.data.seasonal_har import make_scale
from nqcast.evaluation.baselines.base import Baseline
from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats


class ScaleFamily(Baseline):
    """`nqcast.data.seasonal_har.SeasonalHAR` on the named predictors: scale of the anchor times its train quantiles."""

    predictors: Literal["realized", "returns", "ewma12", "none"]

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit the diurnal profile, the coefficients and the unit quantiles on the train anchors."""
        self._scale = make_scale(ScaleConfig(predictors=self.predictors), self.levels).fit(features, positions)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): scale (N, H) times unit quantiles (H, Q)."""
        scale_NH = self._scale.transform(features)[positions]
        return scale_NH[:, :, None] * self._scale.unit_quantiles_HQ


class TimeOfDay(ScaleFamily):
    """Knows the clock and nothing of the market; every gain beyond it is knowledge of the present volatility."""

    predictors = "none"


class TimeOfDayEwma(ScaleFamily):
    """What a practitioner writes in an afternoon: one deseasonalised average, an hour long."""

    predictors = "ewma12"


class LogHar(ScaleFamily):
    """The heterogeneous autoregression of Corsi (2009) in logs, blind to what happens inside a bar."""

    predictors = "returns"


class SeasonalHar(ScaleFamily):
    """What the network starts from; its skill over this is what the network adds."""

    predictors = "realized"

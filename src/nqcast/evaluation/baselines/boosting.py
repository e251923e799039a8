"""LightGBM quantile regression on the 24 features plus the scale: the strong tabular learner."""

from typing import Any, Self

import numpy as np
import pandas as pd

from nqcast.data.config import ScaleConfig
from nqcast.data.own_features import feature_names
from nqcast.data.seasonal_har import make_scale
from nqcast.evaluation.baselines.base import Baseline, optional_library
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats


class Lightgbm(Baseline):
    """One booster per horizon and level on target / scale, with log scale, time of day and the features as inputs.

    The boosters are regularised for a low signal: few leaves, many anchors per leaf, a short fit. Quantiles are
    sorted where the boosters cross.
    """

    rounds = 60
    parameters: dict[str, Any] = {  # noqa: RUF012 - read only
        "objective": "quantile",
        "learning_rate": 0.03,
        "num_leaves": 8,
        "min_data_in_leaf": 1000,
        "lambda_l2": 10.0,
        "feature_fraction": 0.5,
        "bagging_fraction": 0.5,
        "bagging_freq": 1,
        "deterministic": True,
        "force_row_wise": True,
        "num_threads": 0,
        "verbosity": -1,
    }

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit the scale, then the boosters on the train anchors' defined targets."""
        library = optional_library("lightgbm", "lightgbm")
        self._scale = make_scale(ScaleConfig(), self.levels).fit(features, positions)
        scale_NH = self._scale.transform(features)
        unit_NH = targets_at(features, positions, self.horizons) / scale_NH[positions]
        x_HNF = self._inputs(features, scale_NH, positions)
        self._boosters = [
            [self._fit_one(library, x_HNF[h], unit_NH[:, h], i, h) for i in range(len(self.levels))]
            for h in range(len(self.horizons))
        ]
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): sorted booster outputs times the scale."""
        scale_NH = self._scale.transform(features)
        x_HNF = self._inputs(features, scale_NH, positions)
        base_HQ = self._scale.unit_quantiles_HQ
        unit_NHQ = np.empty((len(positions), *base_HQ.shape))
        for h, row in enumerate(self._boosters):
            for i, booster in enumerate(row):
                unit_NHQ[:, h, i] = booster.predict(x_HNF[h]) + base_HQ[h, i]
        return np.sort(unit_NHQ, axis=-1) * scale_NH[positions][:, :, None]

    def _fit_one(self, library: Any, x_NF: Floats, unit_N: Floats, i: int, h: int) -> Any:
        defined = np.isfinite(unit_N)
        rest = unit_N[defined] - self._scale.unit_quantiles_HQ[h, i]
        data = library.Dataset(x_NF[defined], rest, init_score=np.zeros(rest.size), params={"verbosity": -1})
        chosen = {**self.parameters, "alpha": self.levels[i], "seed": self.seed, "boost_from_average": False}
        return library.train(chosen, data, num_boost_round=self.rounds)

    def _inputs(self, features: pd.DataFrame, scale_NH: Floats, positions: Positions) -> Floats:
        """Inputs (H, N, F + 3): features, slot and weekday, and the log scale of the horizon."""
        common = features.loc[:, [*feature_names(features), "bar_in_day", "day_of_week"]].to_numpy(dtype=float)[
            positions
        ]
        return np.stack([np.column_stack([common, np.log(scale_NH[positions, h])]) for h in range(len(self.horizons))])

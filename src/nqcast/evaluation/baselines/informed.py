"""Baselines with the network's own inputs: SeasonalHAR, corrected by a simple function, with rolling quantiles.

Most correct the log scale, log s' = log s + g(x), with g fitted by the realized volatility of the horizon, which says
more of the scale than one return does. Then the quantiles of y / s' are mixed from all of train and the latest
sessions, as the network's are. LightGBM by quantiles beside them forecasts return / scale itself.
"""

from abc import abstractmethod
from typing import Any, Self

import numpy as np
import pandas as pd
from scipy.linalg import cho_factor, cho_solve

from nqcast.constants import FEATURES
from nqcast.data.announcements import announcements_ahead
from nqcast.data.config import KINDS, ScaleConfig
from nqcast.data.own_features import feature_names
from nqcast.data.scale import Volatility
from nqcast.data.seasonal_har import make_scale
from nqcast.data.targets import realized_volatility
from nqcast.evaluation.baselines.base import Baseline, optional_library
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.spacing import Spacing

_SPANS = (1, 3, 12)  # five-minute bars before the anchor whose means the network's direct path sees
_LIMIT = 1.5  # of a correction, nats
_STEPS = 60
_REACH = 26_000  # five-minute bars that surely hold the sessions of the rolling quantiles


class RollingConstants(Baseline):
    """The quantiles of the returns of the latest sessions, whatever the hour: constants that follow the times."""

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Take the train quantiles, which stand in where fewer sessions lie before."""
        self._scale = make_scale(ScaleConfig(kind="constant", rolling_weight=1.0), self.levels).fit(features, positions)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q) of the sessions before each anchor's own."""
        scale_NH = self._scale.transform(features)
        return self._scale.rolling_quantiles(features, scale_NH, positions) * scale_NH[positions][:, :, None]


class Informed(Baseline):
    """SeasonalHAR, a correction g of its log scale, and unit quantiles half of train, half of the latest sessions."""

    every = 1  # train anchors taken: neighbours say nearly the same
    config = ScaleConfig()

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit the scale, the correction, and the quantiles of y / s'."""
        self._scale = make_scale(self.config, self.levels).fit(features, positions)
        volatility, rows = self._scale.describe(features), positions[:: self.every]
        x_NK, scale_NH = self._inputs(features, volatility, rows), volatility.scale_NH[rows]
        self._fit_correction(x_NK, realized_volatility(features)[rows] / scale_NH)
        unit_NH = targets_at(features, rows, self.horizons) / (scale_NH * self._factor(x_NK))
        self._scale.unit_quantiles_HQ = np.nanquantile(unit_NH, self.levels, axis=0).T
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): the corrected scale times the mixed unit quantiles."""
        volatility = self._scale.describe(features)
        reach = Spacing.of(features["ts"]).rows(_REACH)
        rows = np.arange(max(int(positions.min()) - reach, 0), int(positions.max()) + 1)
        scale_NH = volatility.scale_NH.copy()
        scale_NH[rows] *= self._factor(self._inputs(features, volatility, rows))
        unit_NHQ = self._scale.rolling_quantiles(features, scale_NH, positions)
        return unit_NHQ * scale_NH[positions][:, :, None]

    def _factor(self, x_NK: Floats) -> Floats:
        return np.exp(np.clip(self._correction(x_NK), -_LIMIT, _LIMIT))

    @abstractmethod
    def _inputs(self, features: pd.DataFrame, volatility: Volatility, rows: Positions) -> Floats:
        """Inputs of the correction at `rows`, (N, K)."""

    @abstractmethod
    def _fit_correction(self, x_NK: Floats, ratio_NH: Floats) -> None:
        """Learn from the realized volatility in scales, NaN where undefined."""

    @abstractmethod
    def _correction(self, x_NK: Floats) -> Floats:
        """The correction g(x) (N, H) of the log scale, in nats."""


class _Linear(Informed):
    """g(x) = x · β by the Laplace quasi-likelihood of the realized volatility, one β per horizon."""

    ridge = 1e-4

    def _fit_correction(self, x_NK: Floats, ratio_NH: Floats) -> None:
        with_one = np.column_stack([np.ones(len(x_NK)), x_NK])
        known_HN = np.isfinite(ratio_NH).T
        fits = [_fisher(with_one[known], ratio_NH[known, h], self.ridge) for h, known in enumerate(known_HN)]
        self.beta_KH = np.stack(fits, axis=1)

    def _correction(self, x_NK: Floats) -> Floats:
        return self.beta_KH[0] + x_NK @ self.beta_KH[1:]


def _fisher(x_NK: Floats, ratio_N: Floats, ridge: float) -> Floats:
    """Coefficients (K,) that minimise the mean of x·β + r·exp(−x·β) plus ridge·|β|², by Fisher scoring.

    The information of this likelihood is X'X / N whatever β is, so it is factored once.
    """
    n, k = x_NK.shape
    penalty_KK = 2.0 * ridge * np.diag(np.r_[0.0, np.ones(k - 1)])
    factor = cho_factor(x_NK.T @ x_NK / n + penalty_KK + 1e-9 * np.eye(k))
    beta_K = np.r_[np.log(ratio_N.mean()), np.zeros(k - 1)]
    for _ in range(_STEPS):
        surprise_N = ratio_N * np.exp(-np.clip(x_NK @ beta_K, -5.0, 5.0)) - 1.0
        step_K = cho_solve(factor, x_NK.T @ surprise_N / n - penalty_KK @ beta_K)
        beta_K = beta_K + step_K
        if np.abs(step_K).max() < 1e-6:
            break
    return beta_K


class SeasonalHarTold(_Linear):
    """SeasonalHAR that knows the announcements: one multiplier per horizon and kind."""

    def _inputs(self, features: pd.DataFrame, volatility: Volatility, rows: Positions) -> Floats:
        return announcements_ahead(features.iloc[rows], KINDS)


class SeasonalHarRealized(_Linear):
    """SeasonalHAR fitted on the realized volatility of the horizon instead of one return's size, same inputs."""

    every = 2
    config = ScaleConfig(announcements=KINDS)

    def _inputs(self, features: pd.DataFrame, volatility: Volatility, rows: Positions) -> Floats:
        return volatility.state_NK[rows]


class AllInputs(Informed):
    """A correction from every input of the network's direct path."""

    every = 6
    config = ScaleConfig(announcements=KINDS, long_memory="auto", memory_reach=60)

    def _inputs(self, features: pd.DataFrame, volatility: Volatility, rows: Positions) -> Floats:
        spans = tuple(dict.fromkeys(map(Spacing.of(features["ts"]).rows, _SPANS)))
        first = max(int(rows.min()) - max(spans) + 1, 0)
        table = features[list(FEATURES)].iloc[first : int(rows.max()) + 1].to_numpy(np.float64)
        total = np.concatenate([np.zeros((1, table.shape[1])), np.cumsum(table, axis=0)])
        at = rows - first + 1
        means = [(total[at] - total[np.maximum(at - span, 0)]) / np.minimum(at, span)[:, None] for span in spans]
        x_NK = np.concatenate(means, axis=1)
        if not hasattr(self, "_moments"):
            deviation = x_NK.std(axis=0)
            self._moments = x_NK.mean(axis=0), np.where(deviation > 1e-9, deviation, 1.0)
        mean_K, deviation_K = self._moments
        standard_NK = np.clip((x_NK - mean_K) / deviation_K, -8.0, 8.0)
        return np.concatenate([standard_NK, volatility.state_NK[rows]], axis=1)


class LinearCorrection(AllInputs, _Linear):
    """A correction that is linear in all of the network's inputs."""


class BoostedScale(AllInputs):
    """LightGBM on the log of realized volatility over the scale, one booster per horizon, with the same inputs."""

    rounds = 200
    parameters: dict[str, Any] = {  # noqa: RUF012 - read only
        **{"objective": "l2", "learning_rate": 0.05, "num_leaves": 15, "min_data_in_leaf": 500, "lambda_l2": 10.0},
        **{"feature_fraction": 0.4, "bagging_fraction": 0.5, "bagging_freq": 1, "deterministic": True},
        **{"force_row_wise": True, "num_threads": 1, "verbosity": -1},
    }

    def _fit_correction(self, x_NK: Floats, ratio_NH: Floats) -> None:
        library = optional_library("lightgbm", "boosted_scale")
        self._boosters = []
        for ratio_N in ratio_NH.T:
            known = np.isfinite(ratio_N)
            data = library.Dataset(x_NK[known], np.log(np.maximum(ratio_N[known], 0.05)), params={"verbosity": -1})
            self._boosters.append(library.train({**self.parameters, "seed": self.seed}, data, self.rounds))

    def _correction(self, x_NK: Floats) -> Floats:
        return np.stack([booster.predict(x_NK, num_threads=1) for booster in self._boosters], axis=1)


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

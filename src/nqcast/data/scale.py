"""What every scale of the returns offers; `seasonal_har` has the scales themselves.

A scale forecasts the size of each horizon's return, and keeps the quantiles of return / scale. It is fitted on train
anchors only; `transform` of a row uses the rows up to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pandas as pd

from nqcast.constants import LEVELS
from nqcast.data.config import ScaleConfig
from nqcast.horizons import DEFAULT, horizons, horizons_of, target_names
from nqcast.spacing import Spacing


class Volatility(NamedTuple):
    """What a scale knows of every row: s (N, H) in return units, and its own predictors in training units (N, K)."""

    scale_NH: np.ndarray
    state_NK: np.ndarray


class Scale(ABC):
    """What every scale offers: s of each row and horizon, the quantiles of y / s, a state for the checkpoint."""

    _arrays: tuple[str, ...] = ("unit_quantiles_HQ",)

    def __init__(self, config: ScaleConfig | None = None, levels: Sequence[float] = LEVELS) -> None:
        self.config = config or ScaleConfig()
        self.levels = tuple(levels)
        self.events: dict[str, str] = {}  # the user's own files of dated events: what they held at the fit
        self.horizons, self.spacing = DEFAULT, Spacing()  # those of the table it is fitted on
        self.unit_quantiles_HQ = np.empty((0, 0))
        self.state_moments_2K = np.empty((2, 0))

    @abstractmethod
    def fit(self, features: pd.DataFrame, train_positions: np.ndarray) -> Self:
        """Fit on the train anchors (rows of `features`) and nothing else; returns self."""

    @abstractmethod
    def describe(self, features: pd.DataFrame) -> Volatility:
        """Scale (N, H), above 0 and finite, and volatility state (N, K) of every row; a row uses the rows up to it.

        The state is what the scale is made of, log scales and log averages, and what is known to come, standardised
        by the train anchors.
        """

    @property
    def n_state(self) -> int:
        """Columns K of the volatility state; 0 before the fit."""
        return self.state_moments_2K.shape[1]

    def transform(self, features: pd.DataFrame) -> np.ndarray:
        """Scale (N, H) of every row, above 0 and finite; a row uses the rows up to it."""
        return self.describe(features).scale_NH

    def quantiles(self, features: pd.DataFrame, positions: np.ndarray) -> np.ndarray:
        """What the scale alone forecasts at rows `positions`: quantiles (N, H, Q), its scale times train's units."""
        return self.transform(features)[positions][:, :, None] * self.unit_quantiles_HQ

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Arrays and JSON-able scalars from which `scale_from_state` builds the same scale."""
        arrays = {name: getattr(self, name).copy() for name in self._array_names}
        scalars: dict[str, Any] = {"config": self.config.model_dump(mode="json"), "levels": list(self.levels)}
        scalars |= {"events": self.events} if self.events else {}
        scalars |= {} if self.spacing == Spacing() else {"bar_minutes": self.spacing.minutes}
        return arrays, scalars if self.horizons == DEFAULT else scalars | {"horizons": list(self.horizons)}

    @property
    def _array_names(self) -> tuple[str, ...]:
        return self._arrays

    def restore(self, arrays: dict[str, np.ndarray]) -> Self:
        """Take the arrays of another's `state()`; returns self."""
        names = self._array_names
        missing = [name for name in names if name not in arrays]
        if missing:
            raise ValueError(f"expected the arrays {list(names)} in a scale's state, found no {missing}: fit it again")
        for name in names:
            setattr(self, name, np.asarray(arrays[name], dtype=np.float64))
        return self

    def _fit_quantiles(self, y_NH: np.ndarray, scale_NH: np.ndarray) -> None:
        self.unit_quantiles_HQ = np.nanquantile(y_NH / scale_NH, self.levels, axis=0).T

    def _require_fit(self, features: pd.DataFrame) -> None:
        self.spacing.check(features["ts"])
        if not self.unit_quantiles_HQ.size:
            raise ValueError(f"expected a fitted {type(self).__name__}, found one that is not: call fit first")

    def rolling_quantiles(self, features: pd.DataFrame, scale_NH: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Unit quantiles (N, H, Q): train's mixed with those of the `rolling_sessions` sessions before each position.

        Of the sessions before, those whose labels had all ended when the session began: all of them, where labels stay
        inside their session. The train quantiles stand in where fewer sessions lie before.
        """
        self._require_fit(features)
        session = np.cumsum(features["session_first"].to_numpy(bool)) - 1
        first_row = np.searchsorted(session, np.arange(session[-1] + 2))
        anchor = features["traded"].to_numpy(bool) & ~features["halt"].to_numpy(bool)
        unit_NH = np.where(anchor[:, None], features[target_names(features.columns)].to_numpy() / scale_NH, np.nan)
        lags = [one.sessions for one in horizons(self.horizons)]
        wanted, index = np.unique(session[positions], return_inverse=True)
        table = np.repeat(self.unit_quantiles_HQ[None], len(wanted), axis=0)
        for row, current in enumerate(wanted):
            if current >= self.config.rolling_sessions + max(lags):
                stops = [first_row[[current - lag - self.config.rolling_sessions, current - lag]] for lag in lags]
                windows = [unit_NH[start:stop, h] for h, (start, stop) in enumerate(stops)]
                rolling_HQ = np.stack([np.nanquantile(window, self.levels) for window in windows])
                weight = self.config.rolling_weight
                table[row] = weight * rolling_HQ + (1.0 - weight) * self.unit_quantiles_HQ
        return table[index]


def train_targets(features: pd.DataFrame, train_positions: np.ndarray) -> np.ndarray:
    """Targets (N, H) of the train anchors, checked to be enough for a fit."""
    y_NH = features[target_names(features.columns)].to_numpy(np.float64)[train_positions]
    defined = np.isfinite(y_NH).sum(axis=0)
    if defined.min() < 100:
        found = dict(zip(horizons_of(features.columns), defined.tolist(), strict=True))
        raise ValueError(f"expected 100 train anchors with a target at each horizon, found {found}: give more bars")
    return y_NH

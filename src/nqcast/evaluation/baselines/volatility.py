"""Baselines that forecast how wide, and take the shape from train: scale times quantiles of return / scale.

The scale is the project's own, a diurnal profile times fewer or more predictors, or that of GARCH, or that of Fracast,
a foundation model of time series that has seen no bar of this market, whose weights its package ships.
"""

from typing import Any, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.data.config import ScaleConfig
from nqcast.data.seasonal_har import SeasonalHAR, make_scale
from nqcast.evaluation.baselines.base import Baseline, empirical_quantiles, optional_library
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizon
from nqcast.spacing import Spacing

PATHS, GRID = 2000, 60
"""How many paths GARCH simulates from each log variance of its grid, and how many of these the grid has."""
AHEAD = 48
"""Bars of which Fracast forecasts the variance."""
_OFFSET = 0.05  # of the usual variance, so that a bar without a move has a log


class ScaleFamily(Baseline):
    """`nqcast.data.seasonal_har.SeasonalHAR` on the named predictors: scale of the anchor times its train quantiles."""

    predictors: Literal["realized", "returns", "ewma12", "none"]

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit the diurnal profile, the coefficients and the unit quantiles on the train anchors."""
        self._scale = make_scale(ScaleConfig(predictors=self.predictors), self.levels).fit(features, positions)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): scale (N, H) times unit quantiles (H, Q)."""
        return self._scale.quantiles(features, positions)


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


class SeasonalHarBySlot(SeasonalHar):
    """SeasonalHAR times what train's returns were in scales, by slot of the day and horizon.

    The scale adds up what single bars vary; the mean size of a return over the open is larger than that says. The
    factor is (Σ|y|/s + 150) / (n + 150) over the n train anchors of a slot: few anchors leave it near one.
    """

    shrinkage = 150.0  # anchors

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit SeasonalHAR, the factors (S, H), and the quantiles of y / (s · factor)."""
        super().fit(features, positions)
        unit_NH = targets_at(features, positions, self.horizons) / self._scale.transform(features)[positions]
        slot_N, slots = features["bar_in_day"].to_numpy()[positions], Spacing.of(features["ts"]).slots
        ratios = []
        for unit_N in unit_NH.T:
            known = np.isfinite(unit_N)
            sums_S = np.bincount(slot_N[known], np.abs(unit_N[known]), minlength=slots)
            ratios.append((sums_S + self.shrinkage) / (np.bincount(slot_N[known], minlength=slots) + self.shrinkage))
        self.factor_SH = np.stack(ratios, axis=1)
        self._scale.unit_quantiles_HQ = empirical_quantiles(unit_NH / self.factor_SH[slot_N], self.levels)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): those of SeasonalHAR times the factor of the anchor's slot."""
        slot_N = features["bar_in_day"].to_numpy()[positions]
        return super().predict(features, positions) * self.factor_SH[slot_N][:, :, None]


class GarchFhs(Baseline):
    """GJR-GARCH on deseasonalised returns of bars (Glosten, Jagannathan and Runkle 1993), fitted by `arch`.

    A path of h bars draws its standardised residuals from the train residuals (Barone-Adesi et al. 1999; each bar's
    draws are one stratified sample, so that their mean and spread are exact) and is
    scaled up again by the diurnal profile of its slots. Quantiles are simulated once on a grid of log variances and
    read off by interpolation, since the next bar's variance is the model's whole state; the profile enters by its
    mean over the horizon.
    """

    reach = 1375  # minutes: as far as a session of five-minute bars looks ahead

    def fit(self, features: pd.DataFrame, positions: Positions) -> Self:
        """Fit profile and parameters on the bars up to the last train anchor."""
        library = optional_library("arch", "garch_fhs")
        history, slots = features.iloc[positions.min() : positions.max() + 1], Spacing.of(features["ts"]).slots
        active = _active(history)
        slot, returns = history["bar_in_day"].to_numpy()[active], history["log_return"].to_numpy(dtype=float)[active]
        sums = np.bincount(slot, returns**2, slots)
        counts = np.bincount(slot, minlength=slots)
        mean = np.sum(sums) / np.sum(counts)
        self._profile = _smooth((sums + 20 * mean) / (counts + 20))
        standard = returns / np.sqrt(self._profile[slot])
        model = library.arch_model(standard, mean="Zero", vol="GARCH", p=1, o=1, q=1, dist="t", rescale=False)
        fitted = model.fit(disp="off", show_warning=False)
        self.parameters = tuple(float(fitted.params[k]) for k in ("omega", "alpha[1]", "gamma[1]", "beta[1]"))
        variance = self._filter(standard)[:-1]
        residuals = standard / np.sqrt(variance)
        residuals = (residuals - residuals.mean()) / residuals.std()
        self._log_grid = np.linspace(np.log(variance.min()) - 0.5, np.log(variance.max()) + 0.5, GRID)
        self._unit_GHQ = self._simulate(residuals)
        return self

    def predict(self, features: pd.DataFrame, positions: Positions) -> Floats:
        """Quantiles (N, H, Q): simulated on the grid of variances, times the root mean profile of the coming slots."""
        slot = features["bar_in_day"].to_numpy()
        active = _active(features)
        standard = features["log_return"].to_numpy(dtype=float)[active] / np.sqrt(self._profile[slot[active]])
        next_variance = self._filter(standard)[np.cumsum(active)[positions]]
        log_variance = np.clip(np.log(next_variance), self._log_grid[0], self._log_grid[-1])
        quantiles = np.empty((len(positions), len(self.horizons), len(self.levels)))
        for h, name in enumerate(self.horizons):
            coming = (slot[positions] + k for k in range(1, self._bars(name) + 1))
            ahead = np.mean([self._profile[one % len(self._profile)] for one in coming], axis=0)
            for i in range(len(self.levels)):
                unit = np.interp(log_variance, self._log_grid, self._unit_GHQ[:, h, i])
                quantiles[:, h, i] = unit * np.sqrt(ahead)
        return quantiles

    def _bars(self, name: str) -> int:
        return horizon(name).bars(1440 // len(self._profile))

    def _filter(self, standard: Floats) -> Floats:
        """Conditional variance of each bar and of the one after the last, (n + 1,), from earlier bars only."""
        omega, alpha, gamma, beta = self.parameters
        shock = standard**2 * (alpha + gamma * (standard < 0))
        variance = np.empty(standard.size + 1)
        variance[0] = omega / max(1 - alpha - gamma / 2 - beta, 1e-3)
        for t in range(standard.size):
            variance[t + 1] = omega + shock[t] + beta * variance[t]
        return variance

    def _simulate(self, residuals: Floats) -> Floats:
        """Quantiles (G, H, Q) of the sum of the coming bars' standardised returns from each variance of the grid."""
        omega, alpha, gamma, beta = self.parameters
        rng = np.random.default_rng(self.seed)
        bars = {self._bars(name): h for h, name in enumerate(self.horizons)}
        strata = np.quantile(residuals, (np.arange(PATHS) + 0.5) / PATHS)
        variance = np.repeat(np.exp(self._log_grid)[:, None], PATHS, axis=1)
        total, result = np.zeros_like(variance), np.empty((GRID, len(self.horizons), len(self.levels)))
        for k in range(1, max(bars) + 1):
            shock = np.sqrt(variance) * rng.permutation(strata)
            total += shock
            variance = omega + (alpha + gamma * (shock < 0)) * shock**2 + beta * variance
            if k in bars:
                result[:, bars[k]] = np.quantile(total, self.levels, axis=1).T
        return result


def _active(features: pd.DataFrame) -> NDArray[np.bool_]:
    return features["traded"].to_numpy(bool) & ~features["halt"].to_numpy(bool)


def _smooth(profile: Floats) -> Floats:
    """Mean over the slot and those less than ten minutes away, around the clock: ¼ ½ ¼ for slots of five minutes."""
    reach = max(Spacing(1440 // len(profile)).lasting(2), 1.0)
    near = ((1.0 - k / reach) / reach * (np.roll(profile, k) + np.roll(profile, -k)) for k in range(1, round(reach)))
    return sum(near, profile / reach)


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
        active = _active(features) & (self._profile_S[slot] > 0)
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

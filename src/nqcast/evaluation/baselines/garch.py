"""GJR-GARCH(1,1) with Student's t and filtered historical simulation: the econometrician's answer."""

from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.evaluation.baselines.base import Baseline, optional_library
from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizon
from nqcast.spacing import Spacing

PATHS = 2000
GRID = 60


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

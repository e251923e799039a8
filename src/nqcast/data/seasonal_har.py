"""The scale of each horizon's return, forecast by a small classical model.

`SeasonalHAR` is a heterogeneous autoregression (Corsi, 2009) on the logs of exponential averages of deseasonalised
variance: s = √(seasonal variance of the coming slots) · exp(β·x), one β per horizon, by Laplace quasi-likelihood.
`ConstantScale` beside it knows nothing of volatility.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd

from nqcast.constants import LEVELS
from nqcast.data.announcements import announcements_ahead
from nqcast.data.config import ScaleConfig
from nqcast.data.har import (
    diurnal_profile,
    fit_laplace,
    frozen_ewma,
    horizon_variance,
    unseen_halt_slots,
    with_filled,
    without_halt,
)
from nqcast.data.long_memory import long_memory
from nqcast.data.scale import Scale, Volatility, train_targets
from nqcast.fields import changed
from nqcast.horizons import DEFAULT, Horizon, horizons, horizons_of
from nqcast.spacing import Spacing
from nqcast.storage.fingerprint import digest

_SOURCES = {"realized": "realized_variance", "range": "log_range", "return": "log_return"}
MEMORY_SESSIONS = 500  # up to the last train anchor, from which on columns that reach back half a year can be learnt
_MARGIN = 2.0  # how far the log scale may leave the range seen in training
_LONG_BREAK = 720.0  # minutes; a night is shorter, a weekend longer
_CLIP = 5.0  # how far the network sees the volatility state leave its training mean, in deviations


def make_scale(config: ScaleConfig | None = None, levels: Sequence[float] = LEVELS) -> Scale:
    """The unfitted scale that `config.kind` names."""
    config = config or ScaleConfig()
    return SeasonalHAR(config, levels) if config.kind == "seasonal_har" else ConstantScale(config, levels)


def scale_from_state(arrays: dict[str, np.ndarray], scalars: dict[str, Any]) -> Scale:
    """The fitted scale whose `state()` this is."""
    scale = make_scale(ScaleConfig(**scalars["config"]), scalars["levels"])
    scale.horizons = tuple(scalars.get("horizons", DEFAULT))
    scale.spacing = Spacing(scalars.get("bar_minutes", Spacing().minutes))
    scale.events = dict(scalars.get("events", {}))
    return scale.restore(arrays)


class ConstantScale(Scale):
    """No model of volatility: one number per horizon, so that scale times unit quantiles are the train quantiles.

    The number is the mean of |target|, not 1: a loss in raw returns is near 4e-4, where an absolute `min_delta` would
    mean percents and the longest horizon would weigh most.
    """

    _arrays = ("unit_quantiles_HQ", "scale_H")

    def fit(self, features: pd.DataFrame, train_positions: np.ndarray) -> Self:
        """Take the mean |target| and the quantiles of target / scale at the train anchors."""
        y_NH = train_targets(features, train_positions)
        self.horizons, self.spacing = horizons_of(features.columns), Spacing.of(features["ts"])
        self.scale_H = np.maximum(np.nanmean(np.abs(y_NH), axis=0), self.config.floor)
        self._fit_quantiles(y_NH, self.scale_H)
        return self

    def describe(self, features: pd.DataFrame) -> Volatility:
        """The same (H,) scales on every row: (N, H), in return units; nothing is known of the volatility, (N, 0)."""
        self._require_fit(features)
        return Volatility(np.tile(self.scale_H, (len(features), 1)), np.empty((len(features), self.n_state)))


class SeasonalHAR(Scale):
    """Time of day times a heterogeneous autoregression of deseasonalised variance, per horizon.

    A horizon over the break adds the usual variance of the nights and weekends in it, which the time of day has not.
    One to the session's end lasts minutes or a day: its β moves along the log of the bars that are left.
    """

    _arrays = ("unit_quantiles_HQ", "profiles_PS", "beta_KH", "centre_K", "bounds_2H", "state_moments_2K")

    @property
    def _array_names(self) -> tuple[str, ...]:
        known = horizons(self.horizons)
        slopes = ("slope_KH",) if any(one.to_close for one in known) else ()
        return (*self._arrays, *slopes, *(("breaks_2",) if any(one.sessions for one in known) else ()))

    def fit(self, features: pd.DataFrame, train_positions: np.ndarray) -> Self:
        """Fit profiles, coefficients and quantiles; nothing after the last train anchor is read.

        Raises:
            ValueError: fewer than 100 train anchors with a target at some horizon.
        """
        y_NH = train_targets(features, train_positions)
        self.horizons, self.spacing = horizons_of(features.columns), Spacing.of(features["ts"])
        self.events = {file: digest(Path(file).read_bytes(), 16) for file in self.config.event_files}
        train = np.asarray(train_positions)
        history = features.iloc[: int(train.max()) + 1]
        if self.config.long_memory == "auto":
            enough = int(history["session_first"].sum()) >= MEMORY_SESSIONS
            self.config = changed(self.config, {"long_memory": enough})
        self._fit_profiles(history.iloc[int(train.min()) :])
        x_all = self._predictors(history)
        x_NK = x_all[train]
        self.centre_K = np.concatenate([[0.0], x_NK[:, 1:].mean(axis=0)])
        log_seasonal_all = self._log_seasonal(history)
        log_seasonal_NH = log_seasonal_all[train]
        left_N = _left(features)[train]
        self._fit_coefficients(x_NK, left_N, log_seasonal_NH, y_NH)
        exponent_NH = self._exponent(x_NK, left_N)
        self.bounds_2H = np.stack([exponent_NH.min(axis=0) - _MARGIN, exponent_NH.max(axis=0) + _MARGIN])
        scale_NH = self._scale(log_seasonal_NH, x_NK, left_N)
        state_NK = self._state(self._scale(log_seasonal_all, x_all, _left(history)), x_all, history)[train]
        mean_K, deviation_K = state_NK.mean(axis=0), state_NK.std(axis=0)
        varies_K = deviation_K > 1e-9 * (1.0 + np.abs(mean_K))  # a constant's deviation is rounding
        self.state_moments_2K = np.stack([mean_K, np.where(varies_K, deviation_K, 1.0)])
        self._fit_quantiles(y_NH, scale_NH)
        return self

    def describe(self, features: pd.DataFrame) -> Volatility:
        """Scale (N, H), and the state (N, K) in deviations from the train mean: log scales, half-logs of the averages,
        and which horizons hold a scheduled announcement.
        """
        self._require_fit(features)
        x_NK = self._predictors(features)
        scale_NH = self._scale(self._log_seasonal(features), x_NK, _left(features))
        mean_K, deviation_K = self.state_moments_2K
        state_NK = self._state(scale_NH, x_NK, features)
        return Volatility(scale_NH, np.clip((state_NK - mean_K) / deviation_K, -_CLIP, _CLIP))

    def _scale(self, log_seasonal_NH: np.ndarray, x_NK: np.ndarray, left_N: np.ndarray) -> np.ndarray:
        exponent_NH = np.clip(self._exponent(x_NK, left_N), self.bounds_2H[0], self.bounds_2H[1])
        return np.maximum(np.exp(log_seasonal_NH + exponent_NH), self.config.floor)

    def _fit_profiles(self, history: pd.DataFrame) -> None:
        active, slot = ~history["halt"].to_numpy(bool), history["bar_in_day"].to_numpy()
        unseen_K = unseen_halt_slots(slot[active], self.spacing.slots)
        active &= ~np.isin(slot, unseen_K)
        variances = (_variance(history, name)[active] for name in _SOURCES)
        profiles = (diurnal_profile(slot[active], variance, self.spacing.slots) for variance in variances)
        self.profiles_PS = np.stack([with_filled(profile_S, unseen_K) for profile_S in profiles])
        if any(one.sessions for one in horizons(self.horizons)):
            self.breaks_2 = _break_variances(history)

    def _fit_coefficients(
        self, x_NK: np.ndarray, left_N: np.ndarray, log_seasonal_NH: np.ndarray, y_NH: np.ndarray
    ) -> None:
        """β of each horizon, and its slope along the bars that are left where that is not always the same."""
        centred_NK = x_NK - self.centre_K
        fits = np.zeros((2 * len(self.centre_K), y_NH.shape[1]))
        for h, one in enumerate(horizons(self.horizons)):
            rows = np.isfinite(y_NH[:, h])
            design_NK = centred_NK[rows]
            if one.to_close:
                design_NK = np.concatenate([design_NK, design_NK * left_N[rows, None]], axis=1)
            found_K = fit_laplace(design_NK, log_seasonal_NH[rows, h], y_NH[rows, h], self.config.ridge)
            fits[: len(found_K), h] = found_K
        self.beta_KH, self.slope_KH = np.split(fits, 2)

    def _log_seasonal(self, features: pd.DataFrame) -> np.ndarray:
        """Log of √(seasonal variance) (N, H), each session with its own halt, which its era tells beforehand."""
        known = horizons(self.horizons)
        at = features["halts"].to_numpy(int), features["bar_in_day"].to_numpy()
        bars = [one.bars(self.spacing.minutes) if one.by_clock else 1 for one in known]
        log_NH = 0.5 * np.log(self._seasonal_table(bars))[at]
        for h, one in enumerate(known):
            if not one.by_clock:
                log_NH[:, h] = 0.5 * np.log(self._seasonal_to(features, one, at))
        return log_NH

    def _seasonal_table(self, bars: Sequence[int]) -> np.ndarray:
        """Seasonal variance of the next bars after each slot, without the halt and with it, (2, S, number of bars)."""
        profile_S = self.profiles_PS[0]
        return np.stack([horizon_variance(p_S, bars) for p_S in (profile_S, without_halt(profile_S))])

    def _seasonal_to(self, features: pd.DataFrame, horizon: Horizon, at: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
        """Seasonal variance (N,) up to the session's end, or of whole days and the breaks between them."""
        slots = self.spacing.slots
        if horizon.to_close:
            left = np.minimum(features["bars_to_close"].to_numpy(), slots - 1)
            return self._seasonal_table(range(slots))[(*at, left)]
        count, until = horizon.sessions, features["long_break_in"].to_numpy()
        long = np.where(until < count, 1 + (count - 1 - until) // 5, 0)
        night, weekend = self.breaks_2
        return count * self._seasonal_table([slots])[at][:, 0] + (count - long) * night + long * weekend

    def _predictors(self, features: pd.DataFrame) -> np.ndarray:
        """Intercept and half-logs of the averages (N, K)."""
        slot = features["bar_in_day"].to_numpy()
        open_market = ~features["halt"].to_numpy(bool)
        columns = [np.ones(len(features))]
        half_lives = self._half_lives()
        for profile_S, source in zip(self.profiles_PS, _SOURCES, strict=True):
            active = open_market & (profile_S[slot] > 0)
            seasonal = profile_S[slot]
            values = np.divide(_variance(features, source), seasonal, out=np.zeros(len(features)), where=active)
            for half_life in half_lives.get(source, ()):
                average = frozen_ewma(values, active, self.spacing.lasting(half_life))
                columns.append(0.5 * np.log(average + self.config.log_offset))
        return np.stack(columns, axis=1)

    def _state(self, scale_NH: np.ndarray, x_NK: np.ndarray, features: pd.DataFrame) -> np.ndarray:
        """Log scales, all predictors but the intercept, the announcements ahead, and the long memory, (N, K)."""
        parts = [np.log(scale_NH), x_NK[:, 1:]]
        if self.config.announcements:
            parts.append(announcements_ahead(features, self.config.announcements))
        if self.config.long_memory:
            memory = long_memory(features, self.profiles_PS, scale_NH, self.config.memory_reach)
            parts.append(np.stack(list(memory.values()), axis=1))
        return np.concatenate(parts, axis=1)

    def _half_lives(self) -> dict[str, tuple[float, ...]]:
        config = self.config
        if config.predictors == "realized":
            half_lives = (config.realized_half_lives, config.range_half_lives, config.return_half_lives)
            return dict(zip(_SOURCES, half_lives, strict=True))
        if config.predictors == "returns":
            return {"return": (*config.realized_half_lives, max(config.return_half_lives))}
        return {"return": (12.0,)} if config.predictors == "ewma12" else {}

    def _exponent(self, x_NK: np.ndarray, left_N: np.ndarray) -> np.ndarray:
        """β·(x − centre) (N, H), β with its slope along `left_N`.

        Column by column: a product by BLAS would depend on a row's place in the block.
        """
        exponent_NH = np.zeros((len(x_NK), self.beta_KH.shape[1]))
        for k, beta_H in enumerate(self.beta_KH):
            exponent_NH += (x_NK[:, k, None] - self.centre_K[k]) * beta_H
        for h, one in enumerate(horizons(self.horizons)):
            if one.to_close:
                for k, slope in enumerate(self.slope_KH[:, h]):
                    exponent_NH[:, h] += left_N * (x_NK[:, k] - self.centre_K[k]) * slope
        return exponent_NH


def _left(features: pd.DataFrame) -> np.ndarray:
    """Where a row stands between the session's end, -½, and a whole session before it, ½, in the log of bars (N,)."""
    if "bars_to_close" not in features:
        return np.zeros(len(features))
    return np.log1p(features["bars_to_close"].to_numpy()) / np.log(Spacing.of(features["ts"]).slots) - 0.5


def _break_variances(history: pd.DataFrame) -> np.ndarray:
    """Variance (2,) that a night and a long break bring, as a normal distribution of the same mean size has."""
    known = history[history["session_first"] & (history["gap_minutes"] > 0) & ~history["unadjusted"].astype(bool)]
    size, long = known["open_return"].abs().to_numpy(), known["gap_minutes"].to_numpy() > _LONG_BREAK
    if not size.any():
        raise ValueError("expected train sessions that open away from a close, for horizons over the break, found none"
                         ": take horizons inside the session, or give more bars")  # fmt: skip
    kinds = [size[one] if one.sum() >= 5 else size for one in (~long, long)]
    return np.array([np.pi / 2 * np.mean(kind) ** 2 for kind in kinds])


def _variance(features: pd.DataFrame, source: str) -> np.ndarray:
    values = features[_SOURCES[source]].to_numpy(np.float64)
    return values if source == "realized" else values**2

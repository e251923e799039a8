"""Parts of SeasonalHAR: the profile of the day, exponential averages that a halt freezes, and the Laplace fit."""

from collections.abc import Sequence
from math import ceil

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter

from nqcast.spacing import Spacing

# Slots (exchange time) that stand alone: session opening 17:00, cash opening 08:30, futures settlement 15:00 (the
# last quarter of an hour before the halt follows), reopening after the halt 15:30.
_SHARP = tuple(hour * 60 + minute for hour, minute in ((8, 30), (15, 0), (15, 30), (17, 0)))
_HALT = 915, 930  # 15:15 to 15:30, minutes of the day, closed in the sessions of the era that halts
_REACH = 2  # bars of five minutes, to either side, at which the weight of a neighbour has fallen to none


def halt_slots(slots: int = Spacing().slots) -> np.ndarray:
    """The slots that begin in the halt (K,), of so many in a day."""
    begin = np.arange(slots) * (1440 // slots)
    return np.flatnonzero((begin >= _HALT[0]) & (begin < _HALT[1]))


def slot_means(slot: np.ndarray, values: np.ndarray, slots: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean of `values` (N,) in each of the slots (0 where there is none), and the number of values."""
    count = np.bincount(slot, minlength=slots)
    total = np.bincount(slot, weights=values, minlength=slots)
    return total / np.maximum(count, 1), count


def smooth_profile(profile_S: np.ndarray, count_S: np.ndarray) -> np.ndarray:
    """Average each slot with those less than ten minutes away, never across or into a sharp slot nor an empty one.

    Weights fall along a line: ¼ ½ ¼ for slots of five minutes, no neighbour for slots of ten or more.
    """
    spacing = Spacing(1440 // len(profile_S))
    alone = np.isin(np.arange(spacing.slots), np.array(_SHARP) // spacing.minutes)
    joins = (count_S > 0) & ~alone
    stretch = np.cumsum(~joins) % max((~joins).sum(), 1)  # around midnight too
    total, norm = np.zeros_like(profile_S), np.zeros_like(profile_S)
    reach = spacing.lasting(_REACH)
    for shift in range(1 - ceil(reach), ceil(reach)):
        near = np.roll(joins, shift) & (np.roll(stretch, shift) == stretch)
        weight = (1.0 - abs(shift) / reach) / reach
        total += weight * np.where(near, np.roll(profile_S, shift), 0.0)
        norm += weight * near
    return np.where(joins, np.divide(total, norm, out=profile_S.copy(), where=joins), profile_S)


def unseen_halt_slots(slot: np.ndarray, slots: int = Spacing().slots) -> np.ndarray:
    """Slots of the halt (K,) in which too few of the bars (N,) lie to learn from: sessions that halt, or hardly any."""
    count_S = np.bincount(slot, minlength=slots)
    enough = min(60, np.median(count_S[count_S > 0]) / 2)
    return np.array([at for at in halt_slots(slots) if count_S[at] < enough], dtype=int)


def with_filled(profile_S: np.ndarray, unseen_K: np.ndarray) -> np.ndarray:
    """The profile with slots that training never saw open drawn between their neighbours, straight in the log."""
    known = np.setdiff1d(np.flatnonzero(profile_S > 0), unseen_K)
    filled_S = profile_S.copy()
    filled_S[unseen_K] = np.exp(np.interp(unseen_K, known, np.log(profile_S[known])))
    return filled_S


def without_halt(profile_S: np.ndarray) -> np.ndarray:
    """The profile of a session that halts."""
    halted_S = profile_S.copy()
    halted_S[halt_slots(len(profile_S))] = 0.0
    return halted_S


def diurnal_profile(slot: np.ndarray, variance: np.ndarray, slots: int = Spacing().slots) -> np.ndarray:
    """Variance (S,) that each slot brings, 0 in slots without trading, from the variances (N,) of bars.

    The squared mean of the root, which is what a Laplace distribution of returns asks for and which a few announcement
    days move less than they move the mean, brought back to the level of the mean over all bars.
    """
    root_S, count_S = slot_means(slot, np.sqrt(variance), slots)
    profile_S = smooth_profile(root_S, count_S) ** 2
    level = profile_S[slot].sum()
    if not level > 0:
        raise ValueError("expected bars that move, found none: check the training bars")
    return profile_S * (variance.sum() / level)


def horizon_variance(profile_S: np.ndarray, bars_H: Sequence[int]) -> np.ndarray:
    """Sum of the profile over the next `bars_H` slots after each slot, (S, H): the seasonal variance of a return.

    Slots without trading bring nothing. A slot that nothing follows gets the smallest positive slot.
    """
    twice = np.concatenate([[0.0], np.cumsum(np.tile(profile_S, 2))])
    begin = np.arange(len(profile_S))[:, None] + 1
    table_SH = twice[begin + np.asarray(bars_H, dtype=int)] - twice[begin]
    return np.maximum(table_SH, profile_S[profile_S > 0].min())


def frozen_ewma(values_N: np.ndarray, active_N: np.ndarray, half_life: float) -> np.ndarray:
    """Exponential average (N,) over the active rows, started at 1; other rows keep the value before them."""
    decay = 0.5 ** (1.0 / half_life)
    averaged = lfilter([1.0 - decay], [1.0, -decay], values_N[active_N], zi=[decay])[0]
    return np.concatenate([[1.0], averaged])[np.cumsum(active_N)]


def laplace_objective(
    beta_K: np.ndarray, x_NK: np.ndarray, offset_N: np.ndarray, size_N: np.ndarray, ridge: float
) -> tuple[float, np.ndarray]:
    """Mean of log s + |y|/s with log s = offset + x·β, plus ridge·Σβ² (intercept, the first, free); gradient."""
    log_s_N = offset_N + x_NK @ beta_K
    ratio_N = size_N * np.exp(-log_s_N)
    penalised_K = np.concatenate([[0.0], beta_K[1:]])
    value = float(np.mean(log_s_N) + np.mean(ratio_N) + ridge * penalised_K @ penalised_K)
    return value, (1.0 - ratio_N) @ x_NK / len(size_N) + 2.0 * ridge * penalised_K


def fit_laplace(x_NK: np.ndarray, offset_N: np.ndarray, y_N: np.ndarray, ridge: float) -> np.ndarray:
    """Coefficients (K,) of the log scale by Laplace quasi-likelihood; column 0 of x is the intercept.

    Raises:
        ValueError: the returns are all zero, or the minimiser fails.
    """
    size_N = np.abs(y_N)
    start_K = np.zeros(x_NK.shape[1])
    level = float(np.mean(size_N * np.exp(-offset_N)))
    if not level > 0:
        raise ValueError("expected returns that are not all zero, found only zeros: check the training bars")
    start_K[0] = np.log(level)
    result = minimize(
        laplace_objective, start_K, args=(x_NK, offset_N, size_N, ridge), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
    )  # fmt: skip
    if not np.isfinite(result.x).all():
        raise ValueError(
            f"expected finite coefficients of the scale, found {result.x}: check the training bars ({result.message})"
        )
    return result.x

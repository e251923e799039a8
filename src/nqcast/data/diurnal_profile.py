"""The diurnal profile: how much variance each five-minute slot of the exchange's day brings."""

from collections.abc import Sequence

import numpy as np

from nqcast.constants import SLOTS_PER_DAY

# Slots (exchange time) that stand alone: session opening 17:00, cash opening 08:30, futures settlement 15:00 (the
# last quarter of an hour before the halt follows), reopening after the halt 15:30.
_SHARP = tuple(hour * 12 + minute // 5 for hour, minute in ((8, 30), (15, 0), (15, 30), (17, 0)))
HALT_SLOTS = tuple(range(183, 186))  # 15:15 to 15:30, closed in the sessions of the era that halts
_KERNEL = np.array([0.25, 0.5, 0.25])


def slot_means(slot: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean of `values` (N,) in each of the 288 slots (0 where there is none), and the number of values."""
    count = np.bincount(slot, minlength=SLOTS_PER_DAY)
    total = np.bincount(slot, weights=values, minlength=SLOTS_PER_DAY)
    return total / np.maximum(count, 1), count


def smooth_profile(profile_S: np.ndarray, count_S: np.ndarray) -> np.ndarray:
    """Average each slot with its neighbours (¼ ½ ¼), never across or into a sharp slot nor an empty one."""
    smooth_S = profile_S.copy()
    alone = np.zeros(SLOTS_PER_DAY, dtype=bool)
    alone[list(_SHARP)] = True
    joins = (count_S > 0) & ~alone
    weighted = np.where(joins, profile_S, 0.0)
    total = sum(weight * np.roll(weighted, shift) for weight, shift in zip(_KERNEL, (-1, 0, 1), strict=True))
    norm = sum(weight * np.roll(joins.astype(float), shift) for weight, shift in zip(_KERNEL, (-1, 0, 1), strict=True))
    smooth_S[joins] = total[joins] / norm[joins]
    return smooth_S


def unseen_halt_slots(slot: np.ndarray) -> np.ndarray:
    """Slots of the halt (K,) in which too few of the bars (N,) lie to learn from: sessions that halt, or hardly any."""
    count_S = np.bincount(slot, minlength=SLOTS_PER_DAY)
    enough = min(60, np.median(count_S[count_S > 0]) / 2)
    return np.array([at for at in HALT_SLOTS if count_S[at] < enough], dtype=int)


def with_filled(profile_S: np.ndarray, unseen_K: np.ndarray) -> np.ndarray:
    """The profile with slots that training never saw open drawn between their neighbours, straight in the log."""
    known = np.setdiff1d(np.flatnonzero(profile_S > 0), unseen_K)
    filled_S = profile_S.copy()
    filled_S[unseen_K] = np.exp(np.interp(unseen_K, known, np.log(profile_S[known])))
    return filled_S


def without_halt(profile_S: np.ndarray) -> np.ndarray:
    """The profile of a session that halts."""
    halted_S = profile_S.copy()
    halted_S[list(HALT_SLOTS)] = 0.0
    return halted_S


def diurnal_profile(slot: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Variance (288,) that each slot brings, 0 in slots without trading, from the variances (N,) of bars.

    The squared mean of the root, which is what a Laplace distribution of returns asks for and which a few announcement
    days move less than they move the mean, brought back to the level of the mean over all bars.
    """
    root_S, count_S = slot_means(slot, np.sqrt(variance))
    profile_S = smooth_profile(root_S, count_S) ** 2
    level = profile_S[slot].sum()
    if not level > 0:
        raise ValueError("a diurnal profile needs bars that move; found none: check the training bars")
    return profile_S * (variance.sum() / level)


def horizon_variance(profile_S: np.ndarray, bars_H: Sequence[int]) -> np.ndarray:
    """Sum of the profile over the next `bars_H` slots after each slot, (288, H): the seasonal variance of a return.

    Slots without trading bring nothing. A slot that nothing follows gets the smallest positive slot.
    """
    twice = np.concatenate([[0.0], np.cumsum(np.tile(profile_S, 2))])
    begin = np.arange(SLOTS_PER_DAY)[:, None] + 1
    table_SH = twice[begin + np.asarray(bars_H, dtype=int)] - twice[begin]
    return np.maximum(table_SH, profile_S[profile_S > 0].min())

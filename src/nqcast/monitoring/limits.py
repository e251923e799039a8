"""Control limits that a whole family of figures keeps together, from what the figures do in the reference.

Shapes: R draws of the reference · K figures · S sessions.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import stationary_bootstrap


@dataclass(frozen=True)
class Limits:
    """Lower and upper limit of K figures; an infinite one is none."""

    low_K: Floats
    high_K: Floats

    def crossed(self, value_K: Floats) -> NDArray[np.bool_]:
        """Which figures are outside; an undefined one is not."""
        return (value_K < self.low_K) | (value_K > self.high_K)


def joint_limits(
    draws_RK: Floats,
    centre_K: Floats,
    rate: float,
    side: int,
    blocks: float,
    spread: float = 1.0,
    *,
    pooled: bool = False,
) -> Limits:
    """Limits that any of K dependent figures crosses with probability ``rate`` while their distribution stays.

    Figures are divided by their deviation over the draws, and the greatest of them decides, draw by draw, so that
    figures which move together are not counted as many. The tail is Student's with ``blocks`` − 1 degrees of freedom,
    since deviations are known from that many independent stretches only.

    Args:
        draws_RK: the figures in draws of the reference.
        centre_K: where the figures belong.
        rate: probability that any is crossed.
        side: +1 upper limits, −1 lower, 0 both.
        blocks: independent stretches that the draws come from.
        pooled: draw the deviations half-way to their common size: of figures of one kind, the one whose deviation was
            found too small by chance would raise most alarms.
        spread: how much wider a new figure lies than a draw (√(1 + S/V) where the centre itself was estimated).
    """
    deviation_K = np.maximum(draws_RK.std(axis=0), np.finfo(float).tiny)
    if pooled:
        deviation_K = np.sqrt((deviation_K**2 + np.mean(deviation_K**2)) / 2)
    score_RK = (draws_RK - draws_RK.mean(axis=0)) / deviation_K
    greatest_R = np.abs(score_RK).max(axis=1) if side == 0 else (side * score_RK).max(axis=1)
    normal = float(np.quantile(greatest_R, 1 - rate))
    width_K = spread * student(normal, blocks) * deviation_K
    return Limits(np.where(side <= 0, centre_K - width_K, -np.inf), np.where(side >= 0, centre_K + width_K, np.inf))


def student(normal: float, blocks: float) -> float:
    """Student's quantile, ``blocks`` − 1 degrees (at least 2), with the same tail as a normal one."""
    return float(stats.t.isf(stats.norm.sf(normal), max(blocks - 1, 2.0)))


def session_draws(
    n_reference: int, n_new: int, mean_block: float, draws: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Indices (R, n_new) of reference sessions in blocks of geometric length, as many as are judged."""
    rounds = -(-n_new // n_reference)
    parts = [stationary_bootstrap(n_reference, mean_block, draws, rng) for _ in range(rounds)]
    return np.concatenate(parts, axis=1)[:, :n_new]

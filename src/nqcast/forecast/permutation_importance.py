"""Permutation importance: how much worse a forecast gets when one of its inputs is another anchor's.

Shapes: N anchors · F features · H horizons · S sessions · R resamples.

The other anchor lies in the same part of the session. A window carries the day's pattern of volatility, and the clock,
which stays, says where in the day it ends: windows exchanged across the day would contradict the clock, and the loss
would mix that contradiction with what the feature tells beyond the hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import Estimate, session_sums, skill_with_interval

MEAN = "mean"


def spread_evenly(positions: Positions, count: int) -> Positions:
    """At most ``count`` of the positions, evenly through all of them, first and last included."""
    chosen = np.linspace(0, len(positions) - 1, min(count, len(positions)))
    return positions[np.unique(chosen.round().astype(np.int64))]


def donors(group_N: NDArray[np.object_], rng: np.random.Generator) -> Positions:
    """For each anchor the index of another one of its group; every anchor gives once.

    The members of a group stand in a random ring and each takes from its neighbour, so nobody keeps its own, except
    where it is alone in its group.
    """
    giver_N = np.arange(len(group_N))
    for group in np.unique(group_N.astype(str)):
        ring = rng.permutation(np.flatnonzero(group_N.astype(str) == group))
        giver_N[ring] = np.roll(ring, 1)
    return giver_N


def importance(
    loss_NH: Floats,
    permuted_FNH: Floats,
    session_N: ArrayLike,
    resamples_RS: NDArray[np.int64],
    confidence: float = 0.95,
) -> list[Estimate]:
    """Per feature the rise of the loss as a share of it, per horizon and in the mean (H + 1), with its interval.

    Σ (permuted loss − loss) / Σ loss over anchors with a defined target (NaN elsewhere); sessions are resampled whole.
    """
    own_SH = session_sums(loss_NH, session_N)
    return [
        skill_with_interval(own_SH, session_sums(one_NH, session_N), own_SH, resamples_RS, confidence)
        for one_NH in permuted_FNH
    ]


def named(estimates: Sequence[Estimate], features: Sequence[str], horizons: Sequence[str]) -> dict[str, Any]:
    """{feature: {horizon: {rise, low, high}}}, the mean over horizons among them; shares of the loss."""
    names = [*horizons, MEAN]
    return {
        feature: {
            horizon: {"rise": float(value), "low": float(low), "high": float(high)}
            for horizon, value, low, high in zip(names, one.value, one.low, one.high, strict=True)
        }
        for feature, one in zip(features, estimates, strict=True)
    }

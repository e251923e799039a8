"""Scores of quantile forecasts, in numpy: the independent oracle of what the Trainer accumulates on the device.

Shapes: N anchors · H horizons · Q levels. Quantiles and targets are log returns. A NaN target is an undefined
outcome: it is left out of its horizon's sums and counts, and nothing else of its anchor is. Every mean here is
a sum over a count, never a mean of means over batches. Levels are found by value, never by position.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from nqcast.constants import LEVELS, level_name

Floats = NDArray[np.float64]
LEVEL_TOLERANCE = 1e-9


def level_index(levels: Sequence[float], level: float) -> int:
    """Position of ``level`` in ``levels``, by value; ValueError when it is not among them."""
    matches = np.flatnonzero(np.abs(np.asarray(levels, dtype=float) - level) < LEVEL_TOLERANCE)
    if matches.size != 1:
        raise ValueError(f"expected level {level:g} among the forecast's levels, found {list(levels)}: add it to them")
    return int(matches[0])


def central_intervals(levels: Sequence[float]) -> list[float]:
    """Central intervals whose two ends are among the levels, in per cent, narrowest first: [50, 80, 90]."""
    tails = [tau for tau in levels if tau < 0.5 and np.any(np.abs(np.asarray(levels) - (1 - tau)) < LEVEL_TOLERANCE)]
    return sorted(round(100 * (1 - 2 * tau), 6) for tau in tails)


def usual_intervals(levels: Sequence[float], wanted: Sequence[float] = (90, 80, 50)) -> list[float]:
    """The levels' central intervals that are nearest to the wanted ones, each once, widest first."""
    present = central_intervals(levels)
    return sorted({min(present, key=lambda percent: abs(percent - near)) for near in wanted}, reverse=True)


def main_interval(levels: Sequence[float]) -> float:
    """The central interval that is spoken of: 80 %, or the levels' nearest to it."""
    return usual_intervals(levels, (80,))[0]


def shown_levels(levels: Sequence[float]) -> list[float]:
    """The levels that a narrow table has room for: all of seven, else those nearest to the usual seven."""
    if len(levels) <= len(LEVELS):
        return list(levels)
    return sorted({min(levels, key=lambda level: abs(level - usual)) for usual in LEVELS})


def symmetric(levels: Sequence[float]) -> bool:
    """Whether the levels are a median and pairs τ, 1 − τ, as the weighted interval score needs them."""
    return len(levels) == 2 * len(central_intervals(levels)) + 1


def interval(quantiles_NHQ: Floats, levels: Sequence[float], percent: float) -> tuple[Floats, Floats]:
    """Lower and upper ends (N, H) of the central interval that should cover ``percent`` per cent of outcomes."""
    tail = (1 - percent / 100) / 2
    return quantiles_NHQ[..., level_index(levels, tail)], quantiles_NHQ[..., level_index(levels, 1 - tail)]


def check_shapes(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> tuple[Floats, Floats]:
    """Both arrays in float64, once their shapes agree with each other and with the levels; else ValueError."""
    quantiles, targets = np.asarray(quantiles_NHQ, dtype=np.float64), np.asarray(targets_NH, dtype=np.float64)
    if quantiles.ndim != 3 or quantiles.shape != (*targets.shape, len(levels)):
        raise ValueError(
            f"expected quantiles (N, H, {len(levels)}), targets (N, H), found {quantiles.shape} and {targets.shape}: "
            "pass one row per anchor, one column per horizon, one quantile per level"
        )
    if not np.isfinite(quantiles).all():
        raise ValueError("expected finite quantiles, found NaN or infinity: forecast every anchor that is scored")
    return quantiles, targets


def pinball(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Pinball loss (N, H, Q) in return units: max(τ·(y − q), (τ − 1)·(y − q)); NaN where the target is undefined.

    Source: Koenker and Bassett (1978). Its mean is least at the true τ-quantile.
    """
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    error = targets[..., None] - quantiles
    tau = np.asarray(levels, dtype=float)
    return np.maximum(tau * error, (tau - 1) * error)


def mean_defined(values: Floats, axis: int | tuple[int, ...] | None = 0) -> Floats:
    """Sum of the defined values over their count along ``axis``; NaN where nothing is defined."""
    defined = np.isfinite(values)
    count = defined.sum(axis=axis)
    total = np.where(defined, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def pinball_by_level(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Mean pinball loss (H, Q) in return units."""
    return mean_defined(pinball(quantiles_NHQ, targets_NH, levels))


def mean_pinball(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Mean pinball loss (H,) over anchors and levels, in return units."""
    return pinball_by_level(quantiles_NHQ, targets_NH, levels).mean(axis=-1)


def anchor_loss(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Pinball loss (N, H) of each forecast, averaged over levels; NaN where the target is undefined."""
    return pinball(quantiles_NHQ, targets_NH, levels).mean(axis=-1)


def skill(loss: ArrayLike, reference_loss: ArrayLike) -> Floats:
    """Skill 1 − loss / reference loss: 0 = no better than the reference, 1 = perfect, negative = worse."""
    return 1.0 - np.asarray(loss, dtype=float) / np.asarray(reference_loss, dtype=float)


def below(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Hits (N, H, Q): 1.0 where the outcome is at or below the quantile, else 0.0; NaN where undefined."""
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    hits = (targets[..., None] <= quantiles).astype(float)
    return np.where(np.isfinite(targets)[..., None], hits, np.nan)


def coverage_by_level(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Share (H, Q) of outcomes at or below each quantile; a calibrated forecast has the level itself."""
    return mean_defined(below(quantiles_NHQ, targets_NH, levels))


def inside(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float], percent: float) -> Floats:
    """1.0 where the outcome (N, H) lies in the closed central interval, 0.0 outside, NaN where undefined."""
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    low, high = interval(quantiles, levels, percent)
    return np.where(np.isfinite(targets), ((targets >= low) & (targets <= high)).astype(float), np.nan)


def width(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float], percent: float) -> Floats:
    """Width (N, H) of the central interval in return units, NaN where the target is undefined."""
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    low, high = interval(quantiles, levels, percent)
    return np.where(np.isfinite(targets), high - low, np.nan)


def winkler(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float], percent: float) -> Floats:
    """Winkler (interval) score (N, H) in return units: width + 2/α · distance outside, α = 1 − percent/100.

    Source: Winkler (1972); Gneiting and Raftery (2007), eq. 43. Less is better.
    """
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    low, high = interval(quantiles, levels, percent)
    alpha = 1 - percent / 100
    outside = np.maximum(low - targets, 0) + np.maximum(targets - high, 0)
    return (high - low) + 2 / alpha * outside


def weighted_interval_score(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Weighted interval score (N, H) in return units (Bracher et al. 2021): (½|y − m| + Σₖ αₖ/2·ISₖ) / (K + ½).

    Needs a median and levels that pair into K central intervals. Less is better.
    """
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    lower = [tau for tau in levels if tau < 0.5 - LEVEL_TOLERANCE]
    if not symmetric(levels):
        raise ValueError(f"expected a median and pairs of levels τ, 1 − τ, found {list(levels)}: make them symmetric")
    total = 0.5 * np.abs(targets - quantiles[..., level_index(levels, 0.5)])
    for tau in lower:
        low, high = quantiles[..., level_index(levels, tau)], quantiles[..., level_index(levels, 1 - tau)]
        outside = np.maximum(low - targets, 0) + np.maximum(targets - high, 0)
        total = total + tau * (high - low) + outside
    return total / (len(lower) + 0.5)


def level_weights(levels: Sequence[float]) -> Floats:
    """Length (Q,) of the part of [0, 1] that is nearer to each level than to any other; the lengths add up to 1."""
    tau = np.asarray(levels, dtype=float)
    edges = np.concatenate([[0.0], (tau[1:] + tau[:-1]) / 2, [1.0]])
    return np.diff(edges)


def crps(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """CRPS (N, H) in return units, approximated from the quantiles: 2 · Σ w_τ · pinball_τ ≈ 2 ∫₀¹ pinball_τ dτ.

    Convention: each level stands for the part of [0, 1] nearest to it (`level_weights`), so unequal levels do not
    count equally; at the midpoints (i − ½)/n it equals twice the mean pinball, and for n → ∞ the CRPS. With the
    seven default levels the tails beyond 5 % and 95 % count as if the outermost quantile went on.
    """
    return 2.0 * pinball(quantiles_NHQ, targets_NH, levels) @ level_weights(levels)


def pit_shares(quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, levels: Sequence[float]) -> Floats:
    """Share (H, Q + 1) of outcomes between neighbouring quantiles; needs no interpolation."""
    coverage = np.maximum.accumulate(coverage_by_level(quantiles_NHQ, targets_NH, levels), axis=-1)
    ends = np.zeros((*coverage.shape[:-1], 1))
    return np.diff(np.concatenate([ends, coverage, ends + 1.0], axis=-1), axis=-1)


def crossing_rate(quantiles_NHQ: ArrayLike) -> float:
    """Share of forecasts (anchor and horizon) with at least one pair of neighbouring quantiles in the wrong order."""
    crossed = (np.diff(np.asarray(quantiles_NHQ, dtype=float), axis=-1) < 0).any(axis=-1)
    return float(crossed.mean()) if crossed.size else 0.0


def median_direction(median_NH: ArrayLike, targets_NH: ArrayLike) -> dict[str, Floats]:
    """What the median says about direction, per horizon (H,): information coefficient, accuracy, share of up-moves.

    The information coefficient is Spearman's rank correlation of median and outcome (NaN when either is
    constant). Accuracy counts the anchors whose median and outcome are both non-zero and have the same sign;
    it says something only beside the share of up-moves among the same anchors.
    """
    medians, targets = np.asarray(median_NH, dtype=float), np.asarray(targets_NH, dtype=float)
    correlation, accuracy, up = (np.full(targets.shape[1], np.nan) for _ in range(3))
    for h in range(targets.shape[1]):
        defined = np.isfinite(targets[:, h])
        median, target = medians[defined, h], targets[defined, h]
        if target.size > 2 and np.ptp(median) > 0 and np.ptp(target) > 0:
            correlation[h] = stats.spearmanr(median, target).statistic
        moving = (median != 0) & (target != 0)
        if moving.any():
            accuracy[h] = np.mean(np.sign(median[moving]) == np.sign(target[moving]))
            up[h] = np.mean(target[moving] > 0)
    return {"information_coefficient": correlation, "directional_accuracy": accuracy, "share_up": up}


def named_metrics(
    quantiles_NHQ: ArrayLike,
    targets_NH: ArrayLike,
    levels: Sequence[float],
    horizons: Sequence[str],
    scale_NH: ArrayLike | None = None,
) -> dict[str, float]:
    """The validation metrics by the names that the Trainer logs; losses and widths in return units, coverage a share.

    ``val_loss`` alone is of the loss over the scale (None: 1). Figures without a horizon pool all defined (anchor,
    horizon) pairs; a suffix ``_15m`` … restricts one to that horizon.
    """
    quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, levels)
    loss, hits = pinball(quantiles, targets, levels), below(quantiles, targets, levels)
    unit = loss if scale_NH is None else loss / np.asarray(scale_NH, dtype=float)[..., None]
    per_pair = {f"loss_{level_name(tau)}": loss[..., i] for i, tau in enumerate(levels)}
    per_pair |= {f"coverage_{level_name(tau)}": hits[..., i] for i, tau in enumerate(levels)}
    for percent in [each for each in (80, 50) if each in central_intervals(levels)]:
        per_pair[f"picp_{percent}"] = inside(quantiles, targets, levels, percent)
        per_pair[f"interval_{percent}_mean"] = width(quantiles, targets, levels, percent)
    named = {"val_loss": float(mean_defined(unit, axis=None)), "val_loss_returns": float(mean_defined(loss, axis=None))}
    named |= {f"loss_{horizon}": float(mean_defined(loss[:, h], axis=None)) for h, horizon in enumerate(horizons)}
    for name, values_NH in per_pair.items():
        named[name] = float(mean_defined(values_NH, axis=None))
        named |= {f"{name}_{horizon}": float(mean_defined(values_NH[:, h])) for h, horizon in enumerate(horizons)}
    return named | {"crossing_rate": crossing_rate(quantiles)}

"""Joint paths over the horizons: margins are the forecast's quantiles, the dependence is that of validation's ranks.

A copula by resampling (the Schaake shuffle; Clark et al., 2004): the ranks that outcomes had within their forecasts,
all horizons of an anchor together, are drawn again and put through the new forecast's quantile functions. How much of
the 4h return the first 15 minutes are depends on the hour, so ranks are drawn from the anchors at which the horizons'
scales stood to each other most nearly as they do now.

Shapes: N anchors · H horizons · Q levels · K stored anchors; quantiles, scale and paths in log-return units.
"""

import base64
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata

from nqcast.evaluation.metrics import Floats, check_shapes

FEWEST = 50
"""Anchors with an outcome at every horizon below which there is no dependence to learn."""
STORED = 4000
"""Anchors whose ranks are kept: enough for the hours to differ, small enough for a JSON file."""
SIMILAR = 0.5
"""Share of the stored anchors that a forecast draws from."""


_STEP = 1e-5  # in which ranks and log ratios of scales are kept
_PACKED = ("ranks", "shapes")


class PathCopula:
    """Ranks of validation's outcomes, jointly by anchor, and exponential tails beyond the outer levels.

    Between levels a quantile function is straight over the quantiles of the normal distribution, as that of a peaked
    distribution nearly is. The mean excess of an exponential tail is that of validation's outcomes beyond the outer
    quantiles, in scales (peaks over threshold). Ranks are made uniform per horizon: what is left is dependence alone.
    """

    def __init__(self, levels: Sequence[float], horizons: Sequence[str]) -> None:
        self.levels, self.horizons = tuple(levels), tuple(horizons)
        self.rank_KH = np.empty((0, len(self.horizons)))
        self.shape_KH = np.empty((0, len(self.horizons)))
        self.excess_2H = np.ones((2, len(self.horizons)))

    def fit(self, quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, scale_NH: ArrayLike) -> Self:
        """Take ranks and tails from forecasts and outcomes at anchors in time order.

        Raises:
            ValueError: fewer than FEWEST anchors have an outcome at every horizon.
        """
        quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, self.levels)
        scale = np.asarray(scale_NH, dtype=float)
        self.excess_2H = np.stack([
            _mean_excess((quantiles[..., 0] - targets) / scale, (quantiles[..., 1] - quantiles[..., 0]) / scale),
            _mean_excess((targets - quantiles[..., -1]) / scale, (quantiles[..., -1] - quantiles[..., -2]) / scale),
        ])  # fmt: skip
        whole = np.flatnonzero(np.isfinite(targets).all(axis=1))
        if len(whole) < FEWEST:
            raise ValueError(
                f"expected {FEWEST} anchors with an outcome at every horizon for joint paths, found {len(whole)}: use "
                "a longer validation period"
            )
        kept = whole[np.linspace(0, len(whole) - 1, min(STORED, len(whole))).astype(int)]
        self.rank_KH = _uniform(self.ranks(quantiles[kept], targets[kept], scale[kept]))
        self.shape_KH = _shape(scale[kept])
        self.rank_KH, self.shape_KH = (_STEP * np.rint(part / _STEP) for part in (self.rank_KH, self.shape_KH))
        return self

    def ranks(self, quantiles_NHQ: Floats, targets_NH: Floats, scale_NH: Floats) -> Floats:
        """Probability (N, H) that each forecast gave to outcomes at or below the one that came."""
        normal, last = ndtri(np.asarray(self.levels)), len(self.levels) - 1
        above = (targets_NH[..., None] >= quantiles_NHQ).sum(axis=-1)
        low = np.clip(above - 1, 0, last - 1)
        left, right = (np.take_along_axis(quantiles_NHQ, (low + k)[..., None], -1)[..., 0] for k in (0, 1))
        share = np.clip((targets_NH - left) / np.maximum(right - left, 1e-300), 0.0, 1.0)
        rank = ndtr(normal[low] + share * (normal[low + 1] - normal[low]))
        under = (quantiles_NHQ[..., 0] - targets_NH) / (self.excess_2H[0] * scale_NH)
        over = (targets_NH - quantiles_NHQ[..., -1]) / (self.excess_2H[1] * scale_NH)
        rank = np.where(under > 0, self.levels[0] * np.exp(-np.maximum(under, 0)), rank)
        return np.where(over > 0, 1.0 - (1.0 - self.levels[-1]) * np.exp(-np.maximum(over, 0)), rank)

    def values(self, rank_NH: Floats, quantiles_HQ: Floats, scale_H: Floats) -> Floats:
        """The returns (N, H) at these probabilities of one forecast: the inverse of `ranks`."""
        levels = np.asarray(self.levels)
        columns = []
        for h in range(rank_NH.shape[1]):
            rank, tail_2 = rank_NH[:, h], self.excess_2H[:, h] * scale_H[h]
            inside = np.interp(ndtri(rank), ndtri(levels), quantiles_HQ[h])
            under = tail_2[0] * np.log(np.maximum(levels[0] / rank, 1.0))
            over = tail_2[1] * np.log(np.maximum((1.0 - levels[-1]) / (1.0 - rank), 1.0))
            columns.append(inside - under + over)
        return np.stack(columns, axis=1)

    def draw(self, quantiles_HQ: ArrayLike, scale_H: ArrayLike, paths: int, seed: int = 0) -> Floats:
        """Returns from now to each horizon, (paths, H); a horizon without quantiles has none on any path.

        In every column the k-th smallest value lies at the probability (k − ½) / paths of the forecast.
        """
        quantiles, scale = np.asarray(quantiles_HQ, dtype=float), np.asarray(scale_H, dtype=float)
        distance_K = np.abs(self.shape_KH - _shape(scale[None])).sum(axis=1)
        count = max(int(SIMILAR * len(distance_K)), min(50, len(distance_K)))
        near = np.argpartition(distance_K, count - 1)[:count]
        rng = np.random.default_rng(seed)
        rank_NH = _uniform(self.rank_KH[rng.choice(near, paths)], rng)
        drawn = self.values(rank_NH, quantiles, scale)
        return np.where(np.isfinite(quantiles).all(axis=1), drawn, np.nan)

    def state(self) -> dict[str, Any]:
        """What the copula is, as JSON-able values."""
        return {
            "levels": list(self.levels),
            "horizons": list(self.horizons),
            "ranks": _packed(self.rank_KH / _STEP),
            "shapes": _packed(self.shape_KH / _STEP),
            "excess": self.excess_2H.tolist(),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The copula of this `state()`."""
        copula = cls(state["levels"], state["horizons"])
        copula.rank_KH, copula.shape_KH = (_STEP * _unpacked(state[name], len(copula.horizons)) for name in _PACKED)
        copula.excess_2H = np.asarray(state["excess"], dtype=float)
        return copula


def _packed(steps_KH: Floats) -> str:
    """Whole numbers of four bytes each as base64 text, which JSON holds in a twentieth of the lines."""
    return base64.b64encode(np.rint(steps_KH).astype("<i4").tobytes()).decode()


def _unpacked(text: str, columns: int) -> Floats:
    return np.frombuffer(base64.b64decode(text), "<i4").astype(float).reshape(-1, columns)


def _mean_excess(beyond_NH: Floats, gap_NH: Floats) -> Floats:
    """Mean of what lies beyond (H,), in scales; under 10 of them count as if each gap halved their number."""
    count_H = (beyond_NH > 0).sum(axis=0)
    mean_H = np.where(beyond_NH > 0, beyond_NH, 0.0).sum(axis=0) / np.maximum(count_H, 1)
    found_H = np.where(count_H >= 10, mean_H, np.nanmean(gap_NH, axis=0) / np.log(2.0))
    return np.maximum(found_H, _STEP)  # levels that calibration has put in one place have no gap


def _uniform(rank_NH: Floats, rng: np.random.Generator | None = None) -> Floats:
    """Each column's order as probabilities (k − ½) / N; equals are put in random order where there is a generator."""
    if rng is not None:
        rank_NH = rank_NH + 1e-9 * rng.random(rank_NH.shape)
    return (rankdata(rank_NH, method="ordinal", axis=0) - 0.5) / len(rank_NH)


def _shape(scale_NH: Floats) -> Floats:
    """How the horizons' scales stand to each other (N, H): logs of their ratios to the longest."""
    return np.log(scale_NH / scale_NH[:, -1:])

"""Calibration of quantile forecasts: conformal, fitted once on validation; and adaptive, for a stream.

Shapes: N anchors · H horizons · Q levels. Both move each quantile by a number of scales, q + c·scale, and put the
result back in order. Offsets are in units of the scale, so that one number serves calm and wild hours alike.
"""

from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nqcast.evaluation.metrics import Floats, check_shapes, level_index
from nqcast.spacing import Spacing
from nqcast.storage.json_values import Json


def in_order(quantiles_NHQ: Floats, levels: Sequence[float]) -> Floats:
    """Quantiles that never cross: the median stays, and each further one is at least as far out as the one before."""
    middle = level_index(levels, 0.5)
    upper = np.maximum.accumulate(quantiles_NHQ[..., middle:], axis=-1)
    lower = np.minimum.accumulate(quantiles_NHQ[..., middle::-1], axis=-1)[..., ::-1]
    return np.concatenate([lower[..., :-1], upper], axis=-1)


class ConformalCalibration:
    """Conformalised quantile regression per horizon and level (Romano, Patterson and Candès 2019).

    By level: the offset of a level is the conformal quantile of (outcome − quantile) / scale over the validation
    anchors: the order statistic that makes an exchangeable outcome fall at or below the moved quantile with probability
    at least τ above the median, at most τ below it. Symmetric: levels τ and 1 − τ move outward by one offset c, the
    conformal quantile at 1 − 2τ of max(q_τ − y, y − q_{1−τ}) / scale, so that the interval between them covers; the
    median, and with it the drift of the validation period, stays out. A level without its pair is moved by level.
    ``weights`` is the SHA-256 of the tensors (`Checkpoint.weights_sha256`) that it was fitted for.
    """

    def __init__(
        self, levels: Sequence[float], horizons: Sequence[str], weights: str = "", *, symmetric: bool = False
    ) -> None:
        self.levels = tuple(levels)
        self.horizons = tuple(horizons)
        self.weights = weights
        self.symmetric = symmetric
        self.offset_HQ = np.zeros((len(self.horizons), len(self.levels)))

    def fit(self, quantiles_NHQ: ArrayLike, targets_NH: ArrayLike, scale_NH: ArrayLike) -> Self:
        """Take the offsets from forecasts and outcomes; ValueError where a horizon has under 20 outcomes."""
        quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, self.levels)
        score = (targets[..., None] - quantiles) / np.asarray(scale_NH, dtype=float)[..., None]
        for h, name in enumerate(self.horizons):
            defined = score[np.isfinite(targets[:, h]), h]
            if len(defined) < 20:
                raise ValueError(
                    f"expected at least 20 outcomes at {name} to calibrate on, found {len(defined)}: "
                    "use a longer validation period"
                )
            self.offset_HQ[h] = self._offsets(defined)
        return self

    def _offsets(self, score_NQ: Floats) -> Floats:
        """Offsets (Q,) of one horizon from its (outcome − quantile) / scale."""
        offset_Q = np.array([conformal_quantile(score_NQ[:, i], tau) for i, tau in enumerate(self.levels)])
        if self.symmetric:
            offset_Q[level_index(self.levels, 0.5)] = 0.0
            for low, high in level_pairs(self.levels):
                outside = np.maximum(-score_NQ[:, low], score_NQ[:, high])
                offset_Q[high] = conformal_quantile(outside, self.levels[high] - self.levels[low])
                offset_Q[low] = -offset_Q[high]
        return offset_Q

    def apply(self, quantiles_NHQ: ArrayLike, scale_NH: ArrayLike) -> Floats:
        """Calibrated quantiles (N, H, Q) in return units, in order."""
        quantiles, scale = np.asarray(quantiles_NHQ, dtype=float), np.asarray(scale_NH, dtype=float)
        return in_order(quantiles + self.offset_HQ * scale[..., None], self.levels)

    def state(self) -> Json:
        """The offsets as JSON values, as `nqcast.load` and `Calibration.from_json` read them."""
        return {
            "kind": "conformal",
            "weights": self.weights,
            "levels": list(self.levels),
            "horizons": list(self.horizons),
            "offsets": self.offset_HQ.tolist(),
        }


def level_pairs(levels: Sequence[float]) -> list[tuple[int, int]]:
    """Indices of the levels τ < ½ and 1 − τ that are both there."""
    places = {round(tau, 6): i for i, tau in enumerate(levels)}
    return [(i, places[round(1 - tau, 6)]) for tau, i in places.items() if tau < 0.5 and round(1 - tau, 6) in places]


def conformal_quantile(scores: ArrayLike, level: float) -> float:
    """The order statistic whose coverage of one more exchangeable score errs outward.

    Above the median the ⌈(n + 1)τ⌉-th smallest, below it the ⌊(n + 1)τ⌋-th, at the median their middle; ranks are
    kept between 1 and n.
    """
    ordered = np.sort(np.asarray(scores, dtype=float))
    rank = (ordered.size + 1) * level
    ranks = {-1: [np.floor(rank)], 0: [np.floor(rank), np.ceil(rank)], 1: [np.ceil(rank)]}[int(np.sign(level - 0.5))]
    index = np.clip(np.array(ranks, dtype=int), 1, ordered.size) - 1
    return float(ordered[index].mean())


class OnlineCalibration:
    """Adaptive conformal quantiles for a stream, with outcomes that arrive late (after Gibbs and Candès 2021).

    Each issued quantile is moved by an offset per horizon and level; when the outcome of an earlier forecast becomes
    known, the offset takes one step of the pinball gradient: up by rate·τ where the outcome lay above the issued
    quantile, down by rate·(1 − τ) where it did not, divided by the bars of the horizon, whose outcomes overlap and say
    the same thing that many times. An outcome counts only once its horizon has passed.
    """

    def __init__(self, levels: Sequence[float], minutes: Sequence[int], rate: float = 0.015, parts: int = 0) -> None:
        """``minutes`` are the horizons; ``rate`` is the step in scales per whole horizon, 0 < rate < 1.

        ``parts``: so many parts of the session have offsets (P, H, Q) of their own, which the outcomes of their anchors
        move; 0 for one offset in all of it.
        """
        if not 0 < rate < 1:
            raise ValueError(f"expected a rate between 0 and 1 scales per horizon, found {rate}: 0.015 is usual")
        self.levels = tuple(levels)
        self.minutes = tuple(minutes)
        self.rate = rate
        shape = (len(self.minutes), len(self.levels))
        self.offset_HQ = np.zeros((parts, *shape) if parts else shape)

    def run(
        self,
        ts_N: ArrayLike,
        quantiles_NHQ: ArrayLike,
        targets_NH: ArrayLike,
        scale_NH: ArrayLike,
        part_N: ArrayLike | None = None,
    ) -> Floats:
        """Calibrated quantiles (N, H, Q) issued through a stream; the offsets go on from where they stand.

        Outcomes still unknown at the last anchor are not carried into a later run: run a stream in one piece, or lose
        the last horizon of each.
        ``ts_N`` are the starts of the anchors' bars (datetime64, rising). At an anchor the outcomes of those earlier
        anchors are used whose ts + horizon is at most its own ts: both bars last as long. ``part_N`` is each anchor's
        part of the session, 0 … P − 1, where parts have offsets of their own.
        """
        quantiles, targets = check_shapes(quantiles_NHQ, targets_NH, self.levels)
        scale, ts = np.asarray(scale_NH, dtype=float), np.asarray(ts_N, dtype="datetime64[ns]")
        if (np.diff(ts) <= np.timedelta64(0, "ns")).any():
            raise ValueError("expected anchors in time order, each once, found a step back: sort the forecasts by ts")
        issued, bar = np.empty_like(quantiles), Spacing.of(ts).minutes
        for rows, offset_HQ in self._streams(part_N):
            for h, minutes in enumerate(self.minutes):
                known = np.searchsorted(ts[rows] + np.timedelta64(minutes, "m"), ts[rows], side="right")
                step = self.rate * bar / max(minutes, bar)
                one = quantiles[rows, h], targets[rows, h], scale[rows, h]
                issued[rows, h] = self._run_horizon(offset_HQ[h], step, known, *one)
        return issued

    def _streams(self, part_N: ArrayLike | None) -> list[tuple[slice | NDArray[np.intp], Floats]]:
        """The anchors that share offsets, and these (H, Q), which a run moves in place."""
        assert (part_N is None) == (self.offset_HQ.ndim == 2), "parts of the session go with offsets by part"
        if part_N is None:
            return [(slice(None), self.offset_HQ)]
        return [(np.flatnonzero(np.asarray(part_N) == part), offset) for part, offset in enumerate(self.offset_HQ)]

    def _run_horizon(
        self,
        offset_Q: Floats,
        step: float,
        known_N: NDArray[np.int64],
        quantiles_NQ: Floats,
        targets_N: Floats,
        scale_N: Floats,
    ) -> Floats:
        """Run one horizon; ``known_N`` is how many of the first anchors have an outcome when each forecast is made.

        Block by block: the anchors whose known outcomes were all issued before the first of them, which are a horizon
        long. Offsets are added up in the order of the outcomes, so that blocks change no bit.
        """
        tau, issued_NQ = np.asarray(self.levels), np.empty_like(quantiles_NQ)
        known_N = np.minimum(known_N, np.arange(len(targets_N)))
        start = done = 0
        while start < len(targets_N):
            stop = int(np.searchsorted(known_N, start, side="right"))
            past = slice(done, int(known_N[stop - 1]))
            moves = step * (tau - (targets_N[past, None] <= issued_NQ[past]))
            moves[~np.isfinite(targets_N[past])] = 0.0
            path = np.add.accumulate(np.concatenate([offset_Q[None], moves]))
            offset_NQ = path[known_N[start:stop] - done]
            issued_NQ[start:stop] = in_order(
                quantiles_NQ[start:stop] + offset_NQ * scale_N[start:stop, None], self.levels
            )
            offset_Q[:] = path[-1]
            start, done = stop, int(known_N[stop - 1])
        return issued_NQ

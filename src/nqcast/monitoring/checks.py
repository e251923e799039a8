"""What monitoring asks, and the control limits that a family of figures keeps together: drift, coverage and skill.

Shapes: N anchors · S newest sessions · V validation sessions · F features · B bins · H horizons · Q levels · K figures,
in R draws, or stretches, of the reference.

Do the features still look like those of training? PSI = Σ (p − q)·ln(p / q) over bins that each hold an equal share q
of the training anchors, p the newest sessions' shares. Volatility and volume stay high or low for weeks, so even
without drift any few weeks differ from the years before; the usual thresholds (.1, .25) know nothing of that. Limits
here come from every stretch of as many consecutive sessions in training, each compared with the rest of training: a
block bootstrap whose block is the whole stretch.

Do forecasts still cover, and are they still worth something? Outcomes of one session overlap, so sessions are the unit
everywhere, drawn in blocks; limits come from validation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from nqcast.data.own_features import feature_names
from nqcast.evaluation import metrics
from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import session_sums, stationary_bootstrap


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


HALF = 0.5  # added to every count: a bin that stays empty counts as half an anchor


def bin_edges(features: pd.DataFrame, train: Positions, bins: int) -> list[Floats]:
    """Inner edges of each feature's bins; fewer where values repeat."""
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    return [
        np.unique(np.quantile(features[name].to_numpy(np.float64)[train], shares)) for name in feature_names(features)
    ]


def session_counts(features: pd.DataFrame, positions: Positions, edges: list[Floats], bins: int) -> Floats:
    """Anchors (S, F, B) of each session in each bin, sessions in time order."""
    _, session = np.unique(features["session"].to_numpy()[positions], return_inverse=True)
    counts = np.zeros((session.max() + 1, len(edges), bins))
    for f, name in enumerate(feature_names(features)):
        inside = np.searchsorted(edges[f], features[name].to_numpy(np.float64)[positions], side="right")
        np.add.at(counts[:, f], (session, inside), 1.0)
    return counts


def stability_index(count_FB: Floats, reference_FB: Floats) -> Floats:
    """PSI (…, F) of counts (…, F, B) against reference counts; bins that neither fills count for nothing."""
    used = (count_FB + reference_FB) > 0
    p, q = (_shares(counts, used) for counts in (count_FB, reference_FB))
    return np.where(used, (p - q) * np.log(np.where(used, p / np.where(used, q, 1.0), 1.0)), 0.0).sum(axis=-1)


def _shares(count_FB: Floats, used: np.ndarray) -> Floats:
    filled = np.where(used, count_FB + HALF, 0.0)
    return filled / filled.sum(axis=-1, keepdims=True)


def drift_limits(count_SFB: Floats, sessions: int, rate: float) -> Limits:
    """Upper limits (F,) of PSI over ``sessions`` sessions, from all stretches of training of that length.

    ValueError when training is shorter than three such stretches.
    """
    if len(count_SFB) < 3 * sessions:
        raise ValueError(
            f"expected at least {3 * sessions} training sessions for limits over {sessions}, found {len(count_SFB)}: "
            "lower monitor.sessions"
        )
    log_RF = np.log(stretch_indices(count_SFB, sessions))
    blocks = len(count_SFB) / sessions
    limits = joint_limits(log_RF, log_RF.mean(axis=0), rate, +1, blocks, np.sqrt(1 + 1 / blocks), pooled=True)
    return Limits(np.full(len(limits.high_K), -np.inf), np.exp(limits.high_K))


def stretch_indices(count_SFB: Floats, sessions: int) -> Floats:
    """PSI (R, F) of every stretch of consecutive training sessions against the rest of training."""
    running = np.concatenate([np.zeros((1, *count_SFB.shape[1:])), np.cumsum(count_SFB, axis=0)])
    inside = running[sessions:] - running[:-sessions]
    return stability_index(inside, running[-1] - inside)


@dataclass(frozen=True)
class Outcomes:
    """Session sums of one stretch: what was missed, of how many, and the losses of the model and its references."""

    sessions: NDArray[np.datetime64]
    miss_SK: Floats  # Σ (at or below the quantile − level), K = H·Q
    count_SK: Floats
    loss_SH: Floats
    references: Mapping[str, Floats]  # name: loss (S, H)

    @classmethod
    def of(
        cls,
        session_N: pd.Series,
        targets_NH: Floats,
        quantiles_NHQ: Floats,
        references: Mapping[str, Floats],
        levels: Sequence[float],
    ) -> Outcomes:
        """Sums over sessions of the forecasts' hits and losses, and of the references' losses."""
        session = session_N.to_numpy().astype("datetime64[D]")

        def losses(of_NHQ: Floats) -> Floats:
            return session_sums(metrics.anchor_loss(of_NHQ, targets_NH, levels), session)

        hits_NK = metrics.below(quantiles_NHQ, targets_NH, levels).reshape(len(session), -1)
        return cls(
            sessions=np.unique(session),
            miss_SK=session_sums(hits_NK - np.tile(levels, targets_NH.shape[1]), session),
            count_SK=session_sums(np.isfinite(hits_NK), session),
            loss_SH=losses(quantiles_NHQ),
            references={name: losses(of_NHQ) for name, of_NHQ in references.items()},
        )

    def newest(self, count: int) -> Outcomes:
        last = {name: loss_SH[-count:] for name, loss_SH in self.references.items()}
        return Outcomes(
            self.sessions[-count:], self.miss_SK[-count:], self.count_SK[-count:], self.loss_SH[-count:], last
        )

    @property
    def coverage_error_K(self) -> Floats:
        """Coverage less level (H·Q), NaN without an outcome."""
        return _ratio(self.miss_SK.sum(axis=0), self.count_SK.sum(axis=0))

    @property
    def skill_K(self) -> Floats:
        """Skill over each reference and horizon (references · H)."""
        return np.concatenate([1 - self.loss_SH.sum(axis=0) / loss.sum(axis=0) for loss in self.references.values()])


def coverage_limits(reference: Outcomes, drawn_RS: NDArray[np.int64], rate: float, blocks: float) -> Limits:
    """Limits (K,) of coverage less level: around 0, as wide as the validation sessions' own errors scatter."""
    drawn_RK = _ratio(reference.miss_SK[drawn_RS].sum(axis=1), reference.count_SK[drawn_RS].sum(axis=1))
    spread = np.sqrt(1 + drawn_RS.shape[1] / len(reference.sessions))  # the offsets were fitted on those sessions
    return joint_limits(drawn_RK, np.zeros(drawn_RK.shape[1]), rate, 0, blocks, spread)


def skill_limits(reference: Outcomes, drawn_RS: NDArray[np.int64], rate: float, blocks: float) -> Limits:
    """Lower limits (K,) of skill: below that of validation by what sessions drawn from it would show."""
    own_RH = reference.loss_SH[drawn_RS].sum(axis=1)
    drawn_RK = np.concatenate(
        [1 - own_RH / loss[drawn_RS].sum(axis=1) for loss in reference.references.values()], axis=1
    )
    spread = np.sqrt(1 + drawn_RS.shape[1] / len(reference.sessions))
    return joint_limits(drawn_RK, reference.skill_K, rate, -1, blocks, spread)


def rolling(outcomes: Outcomes, count: int) -> tuple[NDArray[np.datetime64], Floats, Floats]:
    """Last date, coverage error (W, H·Q) and skill (W, references · H) of every ``count`` consecutive sessions."""
    miss, total, own = (_rolling_sums(x, count) for x in (outcomes.miss_SK, outcomes.count_SK, outcomes.loss_SH))
    skill = [1 - own / _rolling_sums(loss, count) for loss in outcomes.references.values()]
    return outcomes.sessions[count - 1 :], _ratio(miss, total), np.concatenate(skill, axis=1)


def _rolling_sums(values_SK: Floats, count: int) -> Floats:
    running = np.concatenate([np.zeros((1, values_SK.shape[1])), np.cumsum(values_SK, axis=0)])
    return running[count:] - running[:-count]


def _ratio(total: Floats, count: Floats) -> Floats:
    return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

"""Do forecasts still cover, and are they still worth something: session sums, limits from validation, rolling figures.

Shapes: N anchors · S newest sessions · V validation sessions · H horizons · Q levels · K figures. Outcomes of one
session overlap, so sessions are the unit everywhere, drawn in blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.evaluation import metrics
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import session_sums
from nqcast.monitoring.limits import Limits, joint_limits


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

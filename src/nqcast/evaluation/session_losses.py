"""Losses of every forecast by horizon, session, part of the session and third of volatility, and what they show.

One table is summed once; gains by part and by third, sessions won, trimmed gains, the share of the perfect-volatility
ceiling and the model confidence set are read off it.

Shapes: M forecasts · H horizons · S sessions · P parts of the session · T thirds of volatility · R resamples. A column
behind the horizons is their mean: losses over those that constants have in all. Gains are shares of the reference's
loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from nqcast.evaluation import metrics
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.significance import Interval, skill_with_interval, times_drawn
from nqcast.market.calendar import minute_of_day

SESSION_PARTS = (
    ("Asia (17:00–02:00)", 0, 120),
    ("Europe (02:00–08:30)", 120, 510),
    ("US morning (08:30–12:00)", 510, 720),
    ("US afternoon (12:00–17:00)", 720, 1020),
    ("Asia (17:00–02:00)", 1020, 1440),
)
PARTS = tuple(dict.fromkeys(name for name, _, _ in SESSION_PARTS))
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
TERCILES = ("calm third", "middle third", "wild third")


def session_part(ts: pd.Series) -> NDArray[np.object_]:
    """Part of the session (N,) in which each bar starts, by exchange time."""
    minute, names = minute_of_day(ts), np.empty(len(ts), dtype=object)
    for name, first, end in SESSION_PARTS:
        names[(minute >= first) & (minute < end)] = name
    return names


def weekday(session: pd.Series) -> NDArray[np.object_]:
    """Weekday (N,) of each anchor's trading date."""
    return np.array(WEEKDAYS, dtype=object)[pd.DatetimeIndex(session).day_of_week.to_numpy()]


def volatility_tercile(volatility_N: Floats) -> NDArray[np.object_]:
    """Third (N,) of the anchors by a volatility that was known when the forecast was made."""
    rank = np.argsort(np.argsort(volatility_N, kind="stable"), kind="stable")
    return np.array(TERCILES, dtype=object)[3 * rank // max(len(rank), 1)]


TRIM = 0.05
"""Share of the sessions left out of a trimmed gain, at either end."""


class SessionGain(TypedDict):
    """A gain session by session: how many were won, how sure that is, and the gain of the usual session."""

    won: int
    sessions: int
    sign_p: float
    median: float
    trimmed: float


@dataclass(frozen=True)
class SessionLosses:
    """Summed pinball losses (M, H + 1, S, P, T) of the forecasts `names`; the last column is the mean over horizons."""

    names: tuple[str, ...]
    sums: Floats
    parts: tuple[str, ...]
    horizons: tuple[str, ...]

    @classmethod
    def of(cls, compared: Compared) -> SessionLosses:
        """Sum the defined losses; thirds are by the reference's spread when the forecast was made."""
        anchors, forecasts = compared.anchors, compared.forecasts
        part_N, third_N = session_part(anchors.ts), volatility_tercile(spread(forecasts[compared.reference]))
        parts = tuple(name for name in PARTS if (part_N == name).any())
        session_N = np.unique(anchors.session.to_numpy(), return_inverse=True)[1]
        codes = (session_N, _place(part_N, parts), _place(third_N, TERCILES))
        shape = (int(session_N.max()) + 1, len(parts), len(TERCILES))
        cell_N = np.ravel_multi_index(codes, shape)
        loss_MHN = np.nan_to_num(np.stack(list(compared.losses.values())).transpose(0, 2, 1))
        cells = np.array([[np.bincount(cell_N, row, np.prod(shape)) for row in loss_HN] for loss_HN in loss_MHN])
        sums = cells.reshape(*loss_MHN.shape[:2], *shape)
        names = tuple(forecasts)
        base_H = sums[names.index("constants")].sum(axis=(1, 2, 3))
        mean = (sums / base_H[:, None, None, None]).mean(axis=1, keepdims=True)
        return cls(names, np.concatenate([sums, mean], axis=1), parts, anchors.horizons)

    def by_session(self, name: str) -> Floats:
        """Losses (S, H + 1) of one forecast."""
        return np.asarray(self.sums[self.names.index(name)].sum(axis=(2, 3)).T)

    def by_group(self, name: str) -> dict[str, Floats]:
        """Mean losses (S, 1) of one forecast in each part of the session and each third of volatility."""
        own = self.sums[self.names.index(name), -1]
        found = dict(zip(self.parts, own.sum(axis=2).T, strict=True))
        found |= dict(zip(TERCILES, own.sum(axis=1).T, strict=True))
        return {group: loss_S[:, None] for group, loss_S in found.items() if loss_S.any()}


def _place(names_N: NDArray[np.object_], known: Sequence[str]) -> NDArray[np.int64]:
    return np.array([known.index(name) for name in names_N], dtype=np.int64)


def spread(quantiles_NHQ: Floats) -> Floats:
    """How wide a forecast is (N,): from its lowest to its highest quantile at the first horizon."""
    return np.asarray(quantiles_NHQ[:, 0, -1] - quantiles_NHQ[:, 0, 0])


def session_gains(loss_SK: Floats, reference_SK: Floats, names: Sequence[str]) -> dict[str, SessionGain]:
    """Sessions won, the sign test's p-value, and the median and trimmed gain of each column, by its name.

    A session in which both lose the same counts for neither. The trimmed gain leaves out the `TRIM` of the sessions
    with the largest and with the smallest loss difference, so that no single day makes it.
    """
    found = {}
    for name, loss, reference in zip(names, loss_SK.T, reference_SK.T, strict=True):
        difference = reference - loss
        won, decided = int((difference > 0).sum()), int((difference != 0).sum())
        kept = np.sort(np.argsort(difference)[round(TRIM * len(loss)) : len(loss) - round(TRIM * len(loss))])
        known = reference > 0
        found[name] = SessionGain(
            won=won,
            sessions=decided,
            sign_p=float(stats.binomtest(won, decided).pvalue) if decided else 1.0,
            median=float(np.median(difference[known] / reference[known])),
            trimmed=float(difference[kept].sum() / reference[kept].sum()),
        )
    return found


def group_gains(
    losses: SessionLosses, name: str, reference: str, resamples_RS: NDArray[np.int64], confidence: float
) -> dict[str, Interval]:
    """Gain over the reference in each part of the session and each third of volatility, in the mean over horizons."""
    own, other = losses.by_group(name), losses.by_group(reference)
    found = {}
    for group, base in other.items():
        held = (base[resamples_RS] > 0).any(axis=(1, 2))  # a resample may hold no session with such anchors
        gain = skill_with_interval(own[group], base, base, resamples_RS[held], confidence)
        found[group] = gain.named([MEAN, group])[group]
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values of one family, corrected by Holm (1979): the k-th smallest of m times m − k + 1, never falling."""
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return [float(value) for value in corrected]


def confidence_set(loss_SM: Floats, resamples_RS: NDArray[np.int64]) -> Floats:
    """P-value (M,) of each forecast for staying in the model confidence set (Hansen, Lunde and Nason 2011).

    The range statistic is the largest studentised difference of two mean losses. Its p-value is the share of resamples
    in which chance alone reaches it; then the forecast that is worse than another by most leaves, with the largest
    p-value so far. The set of confidence 1 − α holds those whose p-value is α or more; the last one's is 1.
    """
    mean_M = loss_SM.mean(axis=0)
    moved_RM = times_drawn(resamples_RS) / len(loss_SM) @ loss_SM - mean_M
    moved_RMM = moved_RM[:, :, None] - moved_RM[:, None, :]
    deviation_MM = np.sqrt((moved_RMM**2).mean(axis=0))
    deviation_MM[deviation_MM == 0] = np.inf  # equal forecasts, and each with itself
    worse_MM = (mean_M[:, None] - mean_M[None, :]) / deviation_MM
    chance_RMM = np.abs(moved_RMM) / deviation_MM
    p_values, staying, p = np.ones(len(mean_M)), list(range(len(mean_M))), 0.0
    while len(staying) > 1:
        among = np.ix_(staying, staying)
        reached = chance_RMM[:, staying][:, :, staying].max(axis=(1, 2))
        p = max(p, float((reached >= worse_MM[among].max()).mean()))
        worst = staying[int(worse_MM[among].max(axis=1).argmax())]
        p_values[worst] = p
        staying.remove(worst)
    return p_values


def confidence_sets(losses: SessionLosses, resamples_RS: NDArray[np.int64]) -> dict[str, dict[str, float]]:
    """{horizon or mean: {forecast: p-value}}."""
    table_SMH = losses.sums.sum(axis=(3, 4)).transpose(2, 0, 1)
    return {
        horizon: dict(zip(losses.names, confidence_set(table_SMH[:, :, h], resamples_RS).tolist(), strict=True))
        for h, horizon in enumerate([*losses.horizons, MEAN])
    }


def coverage_by_part(rows: Mapping[str, Floats], anchors: Forecasts) -> dict[str, dict[str, dict[str, float]]]:
    """{row: {part of the session: {q05: coverage less level}}}, every outcome of the part counted once."""
    part_N, found = session_part(anchors.ts), {}
    for name, quantiles_NHQ in rows.items():
        hits_NHQ = metrics.below(quantiles_NHQ, anchors.targets, anchors.levels)
        found[name] = {
            part: {
                level_name(tau): float(metrics.mean_defined(hits_NHQ[part_N == part][..., i], axis=None)) - tau
                for i, tau in enumerate(anchors.levels)
            }
            for part in PARTS
            if (part_N == part).any()
        }
    return found

"""What session losses say of a model beside everything it was compared with: one document, and its lines to read."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NotRequired, TypedDict

import numpy as np
import pandas as pd

from nqcast.data.targets import realized_volatility
from nqcast.evaluation.baselines import baseline_quantiles
from nqcast.evaluation.baselines.base import empirical_quantiles
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import MODEL, Forecasts, Positions, rows_of, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.session_losses import (
    MEAN,
    SessionGain,
    SessionLosses,
    confidence_sets,
    coverage_by_part,
    group_gains,
    holm,
    session_gains,
)
from nqcast.evaluation.significance import MINIMUM_DIFFERENCES, Interval
from nqcast.horizons import horizons_of


class Ceiling(TypedDict):
    """Gain of the scale that knows the volatility that came, and the model's gain as a share of that."""

    gain: float
    share: float | None


class Judged(TypedDict):
    """What session losses say; see `judge`."""

    reference: str
    confidence: float
    n_sessions: int
    sessions: dict[str, dict[str, SessionGain]]
    corrected_p: dict[str, dict[str, float]]
    confidence_set: dict[str, dict[str, float]]
    groups: dict[str, Interval]
    coverage_by_part: dict[str, dict[str, dict[str, float]]]
    ceiling: NotRequired[dict[str, Ceiling]]


def judge(compared: Compared, p_values: Mapping[str, Sequence[float | None]]) -> Judged:
    """Everything that follows from the losses of whole sessions.

    Args:
        p_values: of the model against each baseline, by horizon; None where there were too few sessions.

    Returns:
        sessions {baseline: {horizon or mean: sessions won, the sign test, median and trimmed gain}}, corrected_p
        {baseline: {horizon: p-value corrected for the number of horizons}}, confidence_set {horizon or mean:
        {forecast: p-value}} (both empty below ten sessions), groups {part of the session or third of volatility: gain
        over the reference in the mean, with its interval}, coverage_by_part {row: {part: {q05: coverage less level}}},
        and ceiling {horizon or mean: gain of the oracle over the reference, the model's share of it}. Gains are shares
        of the other's loss.
    """
    losses, reference, resamples = SessionLosses.of(compared), compared.reference, compared.resamples
    columns, own_SK = compared.columns, losses.by_session(MODEL)
    found = Judged(
        reference=reference,
        confidence=compared.config.confidence,
        n_sessions=len(own_SK),
        sessions={name: session_gains(own_SK, losses.by_session(name), columns) for name in p_values},
        corrected_p={k: _corrected(compared.anchors.horizons, row) for k, row in p_values.items() if None not in row},
        confidence_set=confidence_sets(losses, resamples) if len(own_SK) >= MINIMUM_DIFFERENCES else {},
        groups=group_gains(losses, MODEL, reference, resamples, compared.config.confidence),
        coverage_by_part=coverage_by_part(compared.model_rows, compared.anchors),
    )
    if compared.oracle is not None:
        needed = {name: compared.forecasts[name] for name in ("constants", reference)}
        known = SessionLosses.of(replace(compared, forecasts={**needed, MODEL: compared.oracle})).by_session(MODEL)
        found["ceiling"] = _ceiling(columns, own_SK, losses.by_session(reference), known)
    return found


def _corrected(horizons: Sequence[str], p_values: Sequence[float | None]) -> dict[str, float]:
    return dict(zip(horizons, holm([float(p) for p in p_values if p is not None]), strict=True))


def _ceiling(columns: Sequence[str], own_SK: Floats, reference_SK: Floats, known_SK: Floats) -> dict[str, Ceiling]:
    """The oracle's gain and the model's share of it, per horizon and in the mean, over all sessions."""
    own, reference, known = (loss_SK.sum(axis=0) for loss_SK in (own_SK, reference_SK, known_SK))
    return {
        name: Ceiling(gain=float((r - k) / r), share=float((r - o) / (r - k)) if r > k else None)
        for name, o, r, k in zip(columns, own, reference, known, strict=True)
    }


def in_confidence_set(judged: Judged, horizon: str) -> list[str]:
    """The forecasts that a model confidence set of the reported confidence holds."""
    least = 1.0 - judged["confidence"]
    return [name for name, p in judged["confidence_set"].get(horizon, {}).items() if p >= least]


def render_judged(judged: Judged) -> str:
    """Two or three lines of at most 80 columns: the confidence set, sessions won, Holm's count, the ceiling's share."""
    lines = [_set_line(judged), _sessions_line(judged)]
    if "ceiling" in judged:
        one = judged["ceiling"][MEAN]
        taken = "." if one["share"] is None else f"; the model takes {100 * one['share']:.0f} % of that."
        of = judged["reference"].replace("_", " ")
        lines.append(f"Knowing the volatility that came would gain {100 * one['gain']:.1f} % of {of}'s loss{taken}")
    return "\n".join(textwrap.fill(line, 79, subsequent_indent="  ") for line in lines)


def _set_line(judged: Judged) -> str:
    if not judged["confidence_set"]:
        return (
            f"No model confidence set and no p-values: {judged['n_sessions']} session"
            f"{'s' if judged['n_sessions'] > 1 else ''}, {MINIMUM_DIFFERENCES} are needed."
        )
    held = ", ".join(name.replace("_", " ") for name in in_confidence_set(judged, MEAN))
    return f"Model confidence set ({judged['confidence']:.0%}, mean): {held}."


def _sessions_line(judged: Judged) -> str:
    name, level = judged["reference"], 1.0 - judged["confidence"]
    one, p_values = judged["sessions"][name][MEAN], judged["corrected_p"].get(name, {})
    below = f"; p below {level:.2g} at {sum(p < level for p in p_values.values())} of {len(p_values)} horizons (Holm)"
    return (
        f"Over {name.replace('_', ' ')}: better in {one['won']} of {one['sessions']} sessions (p {one['sign_p']:.2g}), "
        f"trimmed gain {100 * one['trimmed']:+.2f} % of its loss{below if p_values else ''}."
    )


def beside_baselines(anchors: Forecasts, features: pd.DataFrame, train: Positions, config: EvaluateConfig) -> Compared:
    """A model's forecasts beside those of the profile's baselines and of the oracle, which are fitted on train."""
    asked = features, train, anchors.ts, anchors.levels
    forecasts = {**baseline_quantiles(*asked, config), MODEL: anchors.quantiles}
    return Compared(anchors=anchors, forecasts=forecasts, config=config, oracle=perfect_volatility(*asked))


ORACLE = "oracle_volatility"
"""The name of the oracle's rows in a frame of forecasts."""
_FLOOR = 1e-6  # return units; bars without a move have no volatility


def perfect_volatility(features: pd.DataFrame, train: Positions, ts: pd.Series, levels: Sequence[float]) -> Floats:
    """Quantiles (N, H, Q) at the anchors `ts`: the horizon's realized volatility times train quantiles of y / that."""
    scale_NH = np.maximum(np.nan_to_num(realized_volatility(features)), _FLOOR)
    unit_HQ = empirical_quantiles(targets_at(features, train, horizons_of(features.columns)) / scale_NH[train], levels)
    return scale_NH[rows_of(ts, features)][:, :, None] * unit_HQ

"""The verdict on a set of forecasts, all scored on the same anchors: table, gains with their doubt, calibration."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import HORIZON_BARS, HORIZONS
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import CONFORMAL, ONLINE, RAW
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.coverage import coverage_check, render_checks, render_coverage
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN, add_truth, describe_anchors, render_scores, score_table
from nqcast.evaluation.significance import (
    MINIMUM_DIFFERENCES,
    compare_losses,
    larger_p,
    session_sums,
    skill_with_interval,
    stationary_bootstrap,
)

logger = logging.getLogger(__name__)

MODEL = RAW


def verdict(
    anchors: Forecasts,
    forecasts: Mapping[str, Floats],
    true_law: Any,
    levels: tuple[float, ...],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Score every forecast on the same anchors, the model's gain over each baseline, and its calibrated rows.

    Args:
        anchors: stamps, sessions, targets and scale of the N anchors.
        forecasts: quantiles (N, H, Q) by name: the baselines ("constants" among them), "model", and its calibrated
            rows "model_conformal" and "model_online" where there are any.
        true_law: an object with `quantiles_at(ts, levels)`, or None where nobody knows the law.
        levels: probabilities of the quantiles, ascending.
        config: how the intervals are drawn.

    Returns:
        anchors (one sentence), table {forecast: {horizon: {figure: value}}}, gains {baseline: {horizon: {gain, low,
        high, p_value}}}, calibration {row: `coverage.coverage_check`}, truth (the same shape as table, where the law
        is known), text (all of it to read).
    """
    horizons = tuple(HORIZONS)
    table = score_table(forecasts, anchors.targets, levels, horizons)
    truth = _truth(true_law, forecasts, anchors, levels, config)
    gains = gain_intervals(forecasts, anchors, levels, config)
    described = describe_anchors(anchors)
    scores: dict[str, Any] = {"anchors": described, "table": _nested(table), "gains": gains}
    if truth is not None:
        scores["truth"] = _nested(truth)
    parts = [render_scores(table, described, truth), _render_gains(gains, config)]
    if checks := _coverage_checks(anchors, forecasts, levels, config):
        rows = {name: forecasts[name] for name in (MODEL, *checks)}
        heading = "Outcomes at or below each quantile less its level, points (mean over horizons)"
        scores["calibration"] = checks
        parts += [render_coverage(rows, anchors.targets, levels, horizons, heading)]
        parts[-1] += "\n" + render_checks(checks, config.confidence)
    scores["text"] = "\n\n".join(parts)
    return scores


def _coverage_checks(
    anchors: Forecasts, forecasts: Mapping[str, Floats], levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Any]:
    resamples = _resamples(anchors, config)
    return {
        name: coverage_check(
            dataclasses.replace(anchors, quantiles=forecasts[name]),
            forecasts[MODEL], levels, tuple(HORIZONS), resamples, config.confidence,
        )
        for name in (CONFORMAL, ONLINE)
        if name in forecasts
    }  # fmt: skip


def _resamples(anchors: Forecasts, config: EvaluateConfig) -> NDArray[np.int64]:
    rng = np.random.default_rng(config.seed)
    return stationary_bootstrap(anchors.session.nunique(), config.mean_block, config.bootstrap_replications, rng)


def gain_intervals(
    forecasts: Mapping[str, Floats], anchors: Forecasts, levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Any]:
    """The model's skill less each baseline's, per horizon and in the mean, with a session-bootstrap interval.

    p_value is the Diebold–Mariano test's: the larger of sessions and bars; None below ten sessions. In the mean the
    losses of each horizon are divided by those of the constants first, as skill does.
    """
    losses = {
        name: _with_mean_loss(forecasts, quantiles, anchors, levels)
        for name, quantiles in forecasts.items()
        if name not in (CONFORMAL, ONLINE)
    }
    sums = {name: session_sums(loss[:, :-1], anchors.session) for name, loss in losses.items()}
    resamples = _resamples(anchors, config)
    names = [*HORIZONS, MEAN]
    gains = {}
    for name in losses:
        if name == MODEL:
            continue
        gain = skill_with_interval(sums[MODEL], sums[name], sums["constants"], resamples, config.confidence)
        p_values = _p_values(losses[MODEL], losses[name], anchors, config)
        rows = zip(names, gain.value, gain.low, gain.high, p_values, strict=True)
        gains[name] = {
            horizon: {"gain": float(v), "low": float(low), "high": float(high), "p_value": p}
            for horizon, v, low, high, p in rows
        }
    return gains


def _with_mean_loss(
    forecasts: Mapping[str, Floats], quantiles_NHQ: Floats, anchors: Forecasts, levels: tuple[float, ...]
) -> Floats:
    """Pinball losses (N, H + 1); the last column is the mean over horizons of loss / the constants' mean loss."""
    loss_NH = metrics.anchor_loss(quantiles_NHQ, anchors.targets, levels)
    base_H = metrics.mean_pinball(forecasts["constants"], anchors.targets, levels)
    relative = np.nan_to_num(loss_NH / base_H).mean(axis=1, keepdims=True)
    return np.concatenate([loss_NH, relative], axis=1)


def _p_values(loss_NH: Floats, other_NH: Floats, anchors: Forecasts, config: EvaluateConfig) -> list[float | None]:
    if anchors.session.nunique() < MINIMUM_DIFFERENCES:
        return [None] * loss_NH.shape[1]
    bars = [*HORIZON_BARS, max(HORIZON_BARS)]
    return [larger_p(pair) for pair in compare_losses(loss_NH, other_NH, anchors.session, bars, config.newey_west_lag)]


def _truth(
    true_law: Any,
    forecasts: Mapping[str, Floats],
    anchors: Forecasts,
    levels: tuple[float, ...],
    config: EvaluateConfig,
) -> pd.DataFrame | None:
    if true_law is None or config.truth_anchors == 0:
        return None
    chosen = np.linspace(0, len(anchors.ts) - 1, min(config.truth_anchors, len(anchors.ts))).astype(int)
    logger.info("asking the simulated market for its true quantiles at %d test anchors", len(chosen))
    true_quantiles = true_law.quantiles_at(anchors.ts.iloc[np.unique(chosen)], levels)
    return add_truth(forecasts, anchors, true_quantiles, levels, tuple(HORIZONS))


def _nested(table: pd.DataFrame) -> dict[str, dict[str, dict[Any, Any]]]:
    """{forecast: {horizon: {figure: value}}}."""
    return {
        str(name): {str(row.pop("horizon")): row for row in part.drop(columns="forecast").to_dict("records")}
        for name, part in table.groupby("forecast", sort=False)
    }


def _render_gains(gains: Mapping[str, Any], config: EvaluateConfig) -> str:
    names = next(iter(gains.values()))
    lines = [
        f"Skill of the model less the baseline's, points, with {config.confidence:.0%} session-bootstrap intervals",
        "and the p-value of Diebold–Mariano (the larger of sessions and bars)",
    ]
    lines.append(" " * 16 + "".join(f"{name:>14}" for name in names))
    for name, row in gains.items():
        lines.append(f"  {name.replace('_', ' '):<14}" + "".join(f"{100 * g['gain']:>+14.2f}" for g in row.values()))
        cells = [f"[{100 * g['low']:+.2f},{100 * g['high']:+.2f}]" for g in row.values()]
        lines.append(" " * 16 + "".join(f"{cell:>14}" for cell in cells))
        lines.append(" " * 16 + "".join(f"{_p_text(g['p_value']):>14}" for g in row.values()))
    return "\n".join(lines)


def _p_text(p_value: float | None) -> str:
    return "p –" if p_value is None else "p < .001" if p_value < 0.001 else f"p {p_value:.3f}"

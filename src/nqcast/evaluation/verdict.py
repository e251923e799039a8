"""The verdict on a set of forecasts: every baseline fitted on the train anchors and scored on the same anchors."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from nqcast.data.config import HORIZONS
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import make_baselines
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.forecasts import Forecasts, Positions, as_arrays
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN, add_truth, describe_anchors, render_scores, score_table
from nqcast.evaluation.significance import session_sums, skill_with_interval, stationary_bootstrap

logger = logging.getLogger(__name__)

MODEL = "model"


def verdict(
    predictions: pd.DataFrame,
    features: pd.DataFrame,
    train: Positions,
    true_law: Any,
    levels: tuple[float, ...],
    config: EvaluateConfig,
) -> dict[str, Any]:
    """Score the predictions frame beside every baseline of the profile.

    Args:
        predictions: one row per (anchor, horizon), as `forecasts.predictions_frame` makes it.
        features: the feature table that the anchors are rows of.
        train: row positions of the train anchors, on which every baseline is fitted.
        true_law: an object with `quantiles_at(ts, levels)`, or None where nobody knows the law.
        levels: probabilities of the quantiles, ascending.
        config: which baselines, and how the intervals are drawn.

    Returns:
        anchors (one sentence), table {forecast: {horizon: {figure: value}}}, gains {baseline: {horizon: gain, low,
        high}}, truth (the same shape as table, where the law is known), text (all of it to read, 100 columns).
    """
    horizons = tuple(HORIZONS)
    anchors = as_arrays(predictions, levels, horizons)
    forecasts = {**baseline_quantiles(features, train, anchors.ts, levels, config), MODEL: anchors.quantiles}
    table = score_table(forecasts, anchors.targets, levels, horizons)
    truth = _truth(true_law, forecasts, anchors, levels, config)
    gains = gain_intervals(forecasts, anchors, levels, config)
    described = describe_anchors(anchors)
    scores: dict[str, Any] = {"anchors": described, "table": _nested(table), "gains": gains}
    if truth is not None:
        scores["truth"] = _nested(truth)
    scores["text"] = "\n\n".join([render_scores(table, described, truth), _render_gains(gains, config)])
    return scores


def baseline_quantiles(
    features: pd.DataFrame, train: Positions, ts: pd.Series, levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Floats]:
    """Quantiles (N, H, Q) of every baseline of the profile at the anchors `ts`, fitted on the train anchors."""
    positions = pd.Index(features["ts"]).get_indexer(pd.Index(ts))
    if (positions < 0).any():
        raise ValueError(
            f"expected every anchor among the features, found {(positions < 0).sum()} that are not: "
            "score with the features that the forecasts were made from"
        )
    baselines = make_baselines(config.baseline_names, levels, tuple(HORIZONS), config.seed)
    return {name: one.fit(features, train).predict(features, positions) for name, one in baselines.items()}


def gain_intervals(
    forecasts: Mapping[str, Floats], anchors: Forecasts, levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Any]:
    """The model's skill less each baseline's, per horizon and in the mean, with a session-bootstrap interval."""
    losses = {
        name: session_sums(metrics.anchor_loss(quantiles, anchors.targets, levels), anchors.session)
        for name, quantiles in forecasts.items()
    }
    rng = np.random.default_rng(config.seed)
    resamples = stationary_bootstrap(len(losses[MODEL]), config.mean_block, config.bootstrap_replications, rng)
    names = [*HORIZONS, MEAN]
    gains = {}
    for name, loss in losses.items():
        if name == MODEL:
            continue
        gain = skill_with_interval(losses[MODEL], loss, losses["constants"], resamples, config.confidence)
        gains[name] = {
            horizon: {"gain": float(v), "low": float(low), "high": float(high)}
            for horizon, v, low, high in zip(names, gain.value, gain.low, gain.high, strict=True)
        }
    return gains


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
        f"Skill of the model less the baseline's, points, with {config.confidence:.0%} session-bootstrap intervals"
    ]
    lines.append(" " * 16 + "".join(f"{name:>14}" for name in names))
    for name, row in gains.items():
        lines.append(f"  {name.replace('_', ' '):<14}" + "".join(f"{100 * g['gain']:>+14.2f}" for g in row.values()))
        cells = [f"[{100 * g['low']:+.2f},{100 * g['high']:+.2f}]" for g in row.values()]
        lines.append(" " * 16 + "".join(f"{cell:>14}" for cell in cells))
    return "\n".join(lines)

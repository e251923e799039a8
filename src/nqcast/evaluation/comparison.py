"""A set of forecasts compared on the same anchors: table, gains with their intervals, calibration."""

import dataclasses
import logging
import textwrap
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import pandas as pd

from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import CONFORMAL, ONLINE, RAW
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.coverage import Checks, coverage_check, render_checks, render_coverage
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.judged import Judged, judge, render_judged
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN, Table, add_truth, describe_anchors, render_scores, score_table
from nqcast.evaluation.significance import (
    MINIMUM_DIFFERENCES,
    compare_losses,
    larger_p,
    overlaps,
    resampled,
    session_sums,
    skill_with_interval,
)
from nqcast.spacing import Spacing

logger = logging.getLogger(__name__)

MODEL = RAW


class Gain(TypedDict):
    """Skill of the model less a baseline's, with its interval, and the p-value of their difference."""

    gain: float
    low: float
    high: float
    p_value: float | None


Gains = dict[str, dict[str, Gain]]
"""{baseline: {horizon or mean: gain}}."""


class Scores(TypedDict):
    """What a comparison of forecasts finds; see `compare_forecasts`."""

    anchors: str
    table: Table
    gains: Gains
    text: str
    details: str
    headline: list[str]
    judged: Judged
    calibration: dict[str, Checks]
    truth: NotRequired[Table]
    test_uses: NotRequired[int]
    best_epoch: NotRequired[int]


REFERENCE = "seasonal_har"


class Market(Protocol):
    """A market whose true quantiles are known, because it is simulated."""

    def quantiles_at(
        self, ts: pd.Series, levels: Sequence[float], *, horizons: Sequence[str], spacing: Spacing
    ) -> pd.DataFrame:
        """ts, horizon and the columns q05 …, in log-return units, NaN where undefined."""
        ...


def compare_forecasts(
    anchors: Forecasts,
    forecasts: Mapping[str, Floats],
    market: Market | None,
    levels: tuple[float, ...],
    config: EvaluateConfig,
    oracle: Floats | None = None,
    spacing: Spacing | None = None,
) -> Scores:
    """Score every forecast on the same anchors, the model's gain over each baseline, and its calibrated rows.

    Args:
        anchors: stamps, sessions, targets and scale of the N anchors.
        forecasts: quantiles (N, H, Q) by name: the baselines ("constants" among them), "model", and its calibrated
            rows "model_conformal" and "model_online" where there are any.
        market: knows the true quantiles; None where nobody does.
        levels: probabilities of the quantiles, ascending.
        config: how the intervals are drawn.
        oracle: quantiles (N, H, Q) of a scale that knows the volatility that came (`oracle.perfect_volatility`): a
            ceiling, never a row of the table; None where there is none.
        spacing: of the bars at which the anchors are; None where they leave none of a session out.

    Returns:
        anchors (one sentence), table {forecast: {horizon: {figure: value}}}, gains {baseline: {horizon: {gain, low,
        high, p_value}}}, calibration {row: `coverage.coverage_check`}, truth (the same shape as table, where the true
        quantiles are known), judged (what session losses say: `judged.judge`), text (the table to read), details
        (gains and calibration to read), headline (what it comes to, in three lines).
    """
    horizons = anchors.horizons
    table = score_table(forecasts, anchors.targets, levels, horizons)
    gains = gain_intervals(forecasts, anchors, levels, config)
    described = describe_anchors(anchors)
    nested, checks = _nested(table), _coverage_checks(anchors, forecasts, levels, config)
    truth = _truth(market, forecasts, anchors, levels, config, spacing or Spacing.of(anchors.ts))
    p_values = {name: [row[h]["p_value"] for h in horizons] for name, row in gains.items()}
    judged = judge(forecasts, reference_of(gains), p_values, oracle, anchors, levels, config)
    scores = Scores(
        anchors=described,
        table=nested,
        gains=gains,
        text=f"{render_scores(table, described)}\n\n{render_judged(judged)}",
        details=_details(anchors, {name: forecasts[name] for name in checks}, gains, checks, levels, config),
        headline=headline(nested, gains, levels, config.confidence),
        judged=judged,
        calibration=checks,
    )
    if truth is not None:
        scores["truth"] = _nested(truth)
    return scores


def _details(
    anchors: Forecasts,
    rows: Mapping[str, Floats],
    gains: Gains,
    checks: dict[str, Checks],
    levels: tuple[float, ...],
    config: EvaluateConfig,
) -> str:
    """Gains to read, and how the raw and the calibrated rows keep their levels where there are both."""
    details = [_render_gains(gains, config)]
    if len(checks) > 1:
        heading = "Outcomes at or below each quantile less its level, points, mean over horizons"
        details.append(render_coverage(rows, anchors.targets, levels, anchors.horizons, heading))
        details.append(render_checks(checks, config.confidence))
    return "\n\n".join(details)


def headline(table: Table, gains: Gains, levels: Sequence[float], confidence: float) -> list[str]:
    """Better or not, by how much and how sure, and whether the intervals hold what they should: one line each."""
    name = reference_of(gains)
    gain, shown = gains[name][MEAN], name.replace("_", " ")
    if gain["low"] > 0:
        found = f"The model beats {shown}: the interval of its gain lies above zero."
    elif gain["high"] < 0:
        found = f"The model loses to {shown}: the interval of its gain lies below zero."
    else:
        found = f"The model cannot be told from {shown}: its gain's interval holds zero."
    value, low, high = 100 * gain["gain"], 100 * gain["low"], 100 * gain["high"]
    return [
        found,
        f"Gain in skill {value:+.2f} points [{low:+.2f}, {high:+.2f}] at {confidence:.0%}; skill over constants "
        f"{100 * table[MODEL][MEAN]['skill_constants']:.2f} %.",
        *_covered(table, levels),
        *(_without_gain(gains[name], shown) if gain["low"] > 0 else []),
    ]


def _without_gain(gains: Mapping[str, Gain], reference: str) -> list[str]:
    """A line for the horizons at which a gain in the mean is none; nothing where there is one at each."""
    none = [name for name, one in gains.items() if name != MEAN and one["low"] <= 0]
    return [f"No gain over {reference} at {', '.join(none)}: its interval reaches zero."] if none else []


def untrained(best_epochs: Sequence[int]) -> list[str]:
    """A line where training came back with what it began with; none where every best epoch is a trained one."""
    count, of = sum(epoch == 0 for epoch in best_epochs), len(best_epochs)
    if not count:
        return []
    which = "The network is untrained" if of == 1 else f"{count} of {of} networks are untrained"
    return [f"{which} (best epoch 0): no epoch beat the scale alone."]


def _covered(table: Table, levels: Sequence[float]) -> list[str]:
    """Outcomes inside the main interval, of the model and its calibrated rows; nothing where no levels pair."""
    if not metrics.central_intervals(levels):
        return []
    percent = f"{metrics.main_interval(levels):g}"
    names = {MODEL: "model", CONFORMAL: "conformal", ONLINE: "online"}
    found = {text: table[row][MEAN][f"picp_{percent}"] for row, text in names.items() if row in table}
    shares = [f"{text} {100 * share:.1f} %" for text, share in found.items()]
    return [f"Inside the {percent} % interval: {', '.join(shares)}."]


def reference_of(names: Iterable[str]) -> str:
    """The baseline that the model has to beat: SeasonalHAR, or the last one that was fitted."""
    known = [name for name in names if name not in (MODEL, CONFORMAL, ONLINE)]
    return REFERENCE if REFERENCE in known else known[-1]


def _coverage_checks(
    anchors: Forecasts, forecasts: Mapping[str, Floats], levels: tuple[float, ...], config: EvaluateConfig
) -> dict[str, Checks]:
    resamples = resampled(anchors.session.nunique(), config)
    return {
        name: coverage_check(
            dataclasses.replace(anchors, quantiles=forecasts[name]),
            forecasts[MODEL], levels, anchors.horizons, resamples, config.confidence,
        )
        for name in (MODEL, CONFORMAL, ONLINE)
        if name in forecasts
    }  # fmt: skip


def gain_intervals(
    forecasts: Mapping[str, Floats], anchors: Forecasts, levels: tuple[float, ...], config: EvaluateConfig
) -> Gains:
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
    resamples = resampled(anchors.session.nunique(), config)
    names = [*anchors.horizons, MEAN]
    gains: Gains = {}
    for name in losses:
        if name == MODEL:
            continue
        gain = skill_with_interval(sums[MODEL], sums[name], sums["constants"], resamples, config.confidence)
        p_values = _p_values(losses[MODEL], losses[name], anchors, config)
        rows = zip(names, gain.value, gain.low, gain.high, p_values, strict=True)
        gains[name] = {
            horizon: Gain(gain=float(v), low=float(low), high=float(high), p_value=p)
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
    own = overlaps(anchors.horizons, anchors.ts)
    tests = compare_losses(loss_NH, other_NH, anchors.session, [*own, max(own)], config.newey_west_lag)
    return [larger_p(pair) for pair in tests]


def _truth(
    market: Market | None,
    forecasts: Mapping[str, Floats],
    anchors: Forecasts,
    levels: tuple[float, ...],
    config: EvaluateConfig,
    spacing: Spacing,
) -> pd.DataFrame | None:
    if market is None or config.truth_anchors == 0:
        return None
    chosen = np.linspace(0, len(anchors.ts) - 1, min(config.truth_anchors, len(anchors.ts))).astype(int)
    logger.info("asking the simulated market for its true quantiles at %d test anchors", len(chosen))
    ts = anchors.ts.iloc[np.unique(chosen)]
    true_quantiles = market.quantiles_at(ts, levels, horizons=anchors.horizons, spacing=spacing)
    return add_truth(forecasts, anchors, true_quantiles, levels, anchors.horizons)


def _nested(table: pd.DataFrame) -> Table:
    """A table as JSON values: {forecast: {horizon: {figure: value}}}."""
    return {
        str(name): {str(row.pop("horizon")): _named(row) for row in part.drop(columns="forecast").to_dict("records")}
        for name, part in table.groupby("forecast", sort=False)
    }


def _named(row: dict[Hashable, float]) -> dict[str, float]:
    return {str(name): value for name, value in row.items()}


def _render_gains(gains: Gains, config: EvaluateConfig) -> str:
    """A line per baseline: gain by horizon and in the mean, the mean's interval and p-value; 80 columns."""
    heading = (
        f"Skill of the model less the baseline's, points; of the mean also the {config.confidence:.0%} "
        "session-bootstrap interval and p (Diebold–Mariano, the larger of sessions and bars)"
    )
    names = next(iter(gains.values()))
    lines = [textwrap.fill(heading, 79), " " * 16 + "".join(f"{name:>7}" for name in names) + " interval           p"]
    for name, row in gains.items():
        cells = "".join(f"{100 * one['gain']:>+7.2f}" for one in row.values())
        interval = f"[{100 * row[MEAN]['low']:+.2f},{100 * row[MEAN]['high']:+.2f}]"
        lines.append(f"{name.replace('_', ' '):<16}{cells} {interval:<15}{_p_text(row[MEAN]['p_value']):>5}")
    return "\n".join(lines)


def _p_text(p_value: float | None) -> str:
    return "–" if p_value is None else "<.001" if p_value < 0.001 else f"{p_value:.3f}".lstrip("0")

"""A set of forecasts compared on the same anchors: table, gains with their intervals, calibration."""

import dataclasses
import logging
import textwrap
from collections.abc import Mapping, Sequence
from typing import NotRequired, Protocol, TypedDict

import numpy as np
import pandas as pd

from nqcast.evaluation import metrics
from nqcast.evaluation.compared import Compared
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.coverage import Checks, coverage_check, render_checks, render_coverage
from nqcast.evaluation.frames import CONFORMAL, MODEL, ONLINE
from nqcast.evaluation.judged import Judged, judge, render_judged
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN, Table, add_truth, describe_anchors, render_scores, score_table
from nqcast.evaluation.significance import MINIMUM_DIFFERENCES, Interval, compare_losses, overlaps
from nqcast.spacing import Spacing

logger = logging.getLogger(__name__)


class Gain(Interval):
    """Skill of the model less a baseline's, with its interval, and the p-value of their difference."""

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


class Market(Protocol):
    """A market whose true quantiles are known, because it is simulated."""

    @property
    def source(self) -> str:
        """Name of the bars that it draws."""
        ...

    def quantiles_at(
        self, ts: pd.Series, levels: Sequence[float], *, horizons: Sequence[str], spacing: Spacing
    ) -> pd.DataFrame:
        """ts, horizon and the columns q05 …, in log-return units, NaN where undefined."""
        ...


def market_of(source: str, market: Market | None) -> Market | None:
    """The market, if it is the one that drew the bars; ValueError otherwise, since its truth is not theirs."""
    if market and source not in ("", market.source):
        raise ValueError(
            f"expected to ask the market that drew the bars, {source}, for its true quantiles, found the parameters "
            f"`simulation` of {market.source}: set them as they were, or draw the bars anew by `ingest,features,train`"
        )
    return market


def compare_forecasts(compared: Compared, market: Market | None = None, spacing: Spacing | None = None) -> Scores:
    """Score every forecast on the same anchors, the model's gain over each baseline, and its calibrated rows.

    Args:
        compared: the forecasts and their anchors.
        market: knows the true quantiles; None where nobody does.
        spacing: of the bars at which the anchors are; None where they leave none of a session out.

    Returns:
        anchors (one sentence), table {forecast: {horizon: {figure: value}}}, gains {baseline: {horizon: {gain, low,
        high, p_value}}}, calibration {row: `coverage.coverage_check`}, truth (the same shape as table, where the true
        quantiles are known), judged (what session losses say: `judged.judge`), text (the table to read), details
        (gains and calibration to read), headline (what it comes to, in three lines).
    """
    anchors, described = compared.anchors, describe_anchors(compared.anchors)
    table = score_table(compared.forecasts, anchors.targets, anchors.levels, anchors.horizons)
    gains, checks = gain_intervals(compared), _coverage_checks(compared)
    truth = _truth(market, compared, spacing or Spacing.of(anchors.ts))
    judged = judge(compared, {k: [row[h]["p_value"] for h in anchors.horizons] for k, row in gains.items()})
    scores = Scores(
        anchors=described,
        table=table,
        gains=gains,
        text=f"{render_scores(table, described)}\n\n{render_judged(judged)}",
        details=_details(compared, gains, checks),
        headline=headline(compared, table, gains),
        judged=judged,
        calibration=checks,
    )
    if truth is not None:
        scores["truth"] = truth
    return scores


def _details(compared: Compared, gains: Gains, checks: dict[str, Checks]) -> str:
    """Gains to read, and how the raw and the calibrated rows keep their levels where there are both."""
    details = [_render_gains(gains, compared.config)]
    if len(checks) > 1:
        heading = "Outcomes at or below each quantile less its level, points, mean over horizons"
        details.append(render_coverage(compared.model_rows, compared.anchors, heading))
        details.append(render_checks(checks, compared.config.confidence))
    return "\n\n".join(details)


def headline(compared: Compared, table: Table, gains: Gains) -> list[str]:
    """Better or not, by how much and how sure, and whether the intervals hold what they should: one line each."""
    name = compared.reference
    gain, shown = gains[name][MEAN], name.replace("_", " ")
    if gain["low"] > 0:
        found = f"The model beats {shown}: the interval of its gain lies above zero."
    elif gain["high"] < 0:
        found = f"The model loses to {shown}: the interval of its gain lies below zero."
    else:
        found = f"The model cannot be told from {shown}: its gain's interval holds zero."
    value, low, high = 100 * gain["gain"], 100 * gain["low"], 100 * gain["high"]
    skill, confidence = 100 * table[MODEL][MEAN]["skill_constants"], compared.config.confidence
    return [
        found,
        f"Gain in skill {value:+.2f} points [{low:+.2f}, {high:+.2f}] at {confidence:.0%}; skill over constants "
        f"{skill:.2f} %.",
        *_covered(table, compared.anchors.levels),
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


def _coverage_checks(compared: Compared) -> dict[str, Checks]:
    raw, resamples, confidence = compared.forecasts[MODEL], compared.resamples, compared.config.confidence
    issued = {name: dataclasses.replace(compared.anchors, quantiles=q) for name, q in compared.model_rows.items()}
    return {name: coverage_check(row, raw, resamples, confidence) for name, row in issued.items()}


def gain_intervals(compared: Compared) -> Gains:
    """The model's skill less each baseline's, per horizon and in the mean, with a session-bootstrap interval.

    p_value is the Diebold–Mariano test's: the larger of sessions and bars; None below ten sessions. In the mean the
    losses of each horizon are divided by those of the constants first, as skill does.
    """
    gains: Gains = {}
    for name in compared.baselines:
        found = compared.skill(MODEL, name).named(compared.columns)
        p_values = _p_values(compared, name)
        gains[name] = {column: Gain(**one, p_value=p) for (column, one), p in zip(found.items(), p_values, strict=True)}
    return gains


def _p_values(compared: Compared, baseline: str) -> list[float | None]:
    anchors = compared.anchors
    if anchors.session.nunique() < MINIMUM_DIFFERENCES:
        return [None] * len(compared.columns)
    own = overlaps(anchors.horizons, anchors.ts)
    model, other = (_with_mean_loss(compared, name) for name in (MODEL, baseline))
    tests = compare_losses(model, other, anchors.session, [*own, max(own)], compared.config.newey_west_lag)
    return [max(by_session.p_value, by_bar.p_value) for by_session, by_bar in tests]


def _with_mean_loss(compared: Compared, name: str) -> Floats:
    """Pinball losses (N, H + 1); the last column is the mean over horizons of loss / the constants' mean loss."""
    anchors, loss_NH = compared.anchors, compared.losses[name]
    base_H = metrics.mean_pinball(compared.forecasts["constants"], anchors.targets, anchors.levels)
    relative = np.nan_to_num(loss_NH / base_H).mean(axis=1, keepdims=True)
    return np.concatenate([loss_NH, relative], axis=1)


def _truth(market: Market | None, compared: Compared, spacing: Spacing) -> Table | None:
    count, anchors = compared.config.truth_anchors, compared.anchors
    if market is None or count == 0:
        return None
    chosen = np.linspace(0, len(anchors.ts) - 1, min(count, len(anchors.ts))).astype(int)
    logger.info("asking the simulated market for its true quantiles at %d test anchors", len(chosen))
    ts = anchors.ts.iloc[np.unique(chosen)]
    true_quantiles = market.quantiles_at(ts, anchors.levels, horizons=anchors.horizons, spacing=spacing)
    return add_truth(compared.forecasts, anchors, true_quantiles)


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

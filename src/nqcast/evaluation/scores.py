"""The score table: every forecast on the same anchors, each horizon and the mean, and its rendering as text."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.evaluation import metrics
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats, level_name

MEAN = "mean"
Table = dict[str, dict[str, dict[str, float]]]
"""{forecast: {horizon or mean: {figure: value}}}."""
REFERENCES = ("constants", "time_of_day", "seasonal_har")


def score_table(
    forecasts: Mapping[str, Floats], targets_NH: Floats, levels: Sequence[float], horizons: Sequence[str]
) -> Table:
    """The figures of every forecast at each horizon, and in the mean over horizons.

    ``forecasts`` maps a name to quantiles (N, H, Q) at the same N anchors. Figures: n (defined targets),
    mean_pinball, skill_<reference> for each of `REFERENCES` present; crps, wis (where the levels pair); picp, width
    and winkler of every central interval (picp_80 …), crossing_rate, q05 … (coverage of each level). Losses and widths
    in log-return units; the mean is the plain mean of the horizons' figures, its n their sum.
    """
    loss = {name: metrics.mean_pinball(q, targets_NH, levels) for name, q in forecasts.items()}
    skills = {
        name: {f"skill_{k}": metrics.skill(own, loss[k]) for k in REFERENCES if k in loss} for name, own in loss.items()
    }
    figures = {name: _figures(q, targets_NH, levels) for name, q in forecasts.items()}
    counted = {"n": np.isfinite(targets_NH).sum(axis=0)}
    return {
        name: _by_horizon({**counted, "mean_pinball": loss[name], **skills[name], **figures[name]}, horizons)
        for name in forecasts
    }


def _figures(quantiles_NHQ: Floats, targets_NH: Floats, levels: Sequence[float]) -> dict[str, Floats]:
    """The figures (H,) of one forecast that need no other."""
    found = {"crps": metrics.mean_defined(metrics.crps(quantiles_NHQ, targets_NH, levels))}
    if metrics.symmetric(levels):
        found["wis"] = metrics.mean_defined(metrics.weighted_interval_score(quantiles_NHQ, targets_NH, levels))
    for percent in metrics.central_intervals(levels):
        for name, of in (("picp", metrics.inside), ("width", metrics.width), ("winkler", metrics.winkler)):
            found[f"{name}_{percent:g}"] = metrics.mean_defined(of(quantiles_NHQ, targets_NH, levels, percent))
    found["crossing_rate"] = np.array([metrics.crossing_rate(one) for one in np.moveaxis(quantiles_NHQ, 1, 0)])
    coverage = metrics.coverage_by_level(quantiles_NHQ, targets_NH, levels)
    return found | {level_name(tau): coverage[:, i] for i, tau in enumerate(levels)}


def _by_horizon(figures_H: Mapping[str, NDArray[Any]], horizons: Sequence[str]) -> dict[str, dict[str, float]]:
    """Figures (H,) as {horizon or mean: {figure: value}}."""
    means = {name: float(metrics.mean_defined(figure_H, axis=None)) for name, figure_H in figures_H.items()}
    listed = {name: figure_H.tolist() for name, figure_H in figures_H.items()}
    rows = {horizon: {name: values[h] for name, values in listed.items()} for h, horizon in enumerate(horizons)}
    return rows | {MEAN: {**means, "n": sum(listed["n"])}}


def add_truth(forecasts: Mapping[str, Floats], anchors: Forecasts, true_quantiles: pd.DataFrame) -> Table:
    """Gap to the true conditional quantiles and share of the learnable skill, on the anchors where truth is known.

    ``true_quantiles`` has ts, horizon, q05 … (NaN: undefined, left out). Figures of the result: n, mean_pinball,
    true_pinball, gap (their difference, log-return units) and learnable_share =
    (L_constants − L) / (L_constants − L_true); the mean averages the horizons' losses and shares. ValueError
    when no anchor has a true quantile.
    """
    levels, horizons = anchors.levels, anchors.horizons
    truth_NHQ = _truth_at(anchors.ts, true_quantiles, levels, horizons)
    undefined_NH = np.asarray(np.isnan(truth_NHQ).any(axis=2))
    known = np.flatnonzero(~undefined_NH.all(axis=1))
    if not known.size:
        raise ValueError("expected true quantiles at some scored anchors, found none: ask the market for those anchors")
    targets = np.where(undefined_NH, np.nan, anchors.targets)[known]
    every = {**forecasts, "truth": np.where(undefined_NH[:, :, None], 0.0, truth_NHQ)}
    loss = {name: metrics.mean_pinball(q[known], targets, levels) for name, q in every.items()}
    constant, true, n = loss["constants"], loss["truth"], np.isfinite(targets).sum(axis=0)
    learnable = {name: (constant - own) / (constant - true) for name, own in loss.items()}
    return {
        name: _by_horizon(
            {"n": n, "mean_pinball": own, "true_pinball": true, "gap": own - true, "learnable_share": learnable[name]},
            horizons,
        )
        for name, own in loss.items()
    }


def _truth_at(ts: pd.Series, true_quantiles: pd.DataFrame, levels: Sequence[float], horizons: Sequence[str]) -> Floats:
    names = [level_name(tau) for tau in levels]
    indexed = true_quantiles.set_index(["horizon", "ts"])[names]
    return np.stack([indexed.loc[h].reindex(pd.DatetimeIndex(ts)).to_numpy(dtype=float) for h in horizons], axis=1)


def score_by_group(
    forecasts: Mapping[str, Floats], anchors: Forecasts, group_N: NDArray[np.object_]
) -> dict[str, Table]:
    """The score table of each group of anchors: part of the session, weekday, third of volatility."""
    tables = {}
    for group in pd.unique(pd.Series(group_N).dropna()):
        chosen = np.asarray(group_N) == group
        part = {name: quantiles[chosen] for name, quantiles in forecasts.items()}
        tables[str(group)] = score_table(part, anchors.targets[chosen], anchors.levels, anchors.horizons)
    return tables


def describe_anchors(anchors: Forecasts) -> str:
    """One sentence that names the anchor set: how many, from when to when, in how many sessions."""
    first, last = anchors.ts.iloc[0], anchors.ts.iloc[-1]
    return (
        f"{len(anchors.ts):,} anchors (traded bars outside the halt with a full window and a defined target) "
        f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC in {anchors.session.nunique()} sessions"
    )


def wide(table: Table, figure: str) -> pd.DataFrame:
    """One figure, a row for each forecast, by horizon and in the mean."""
    rows = {name: {h: row[figure] for h, row in by_horizon.items()} for name, by_horizon in table.items()}
    return pd.DataFrame(rows, dtype=float).T


def render_scores(table: Table, anchor_set: str) -> str:
    """The score table as plain text of at most 80 columns: skill by horizon and coverage, forecasts down."""
    skill = 100 * wide(table, "skill_constants")
    heading = "Skill over constants, %"
    covered = [name for name in next(iter(table.values()))[MEAN] if name.startswith("picp_")]
    main = min(covered, key=lambda name: abs(float(name.removeprefix("picp_")) - 80), default=None)
    if main is not None:
        percent = main.removeprefix("picp_")
        skill[f"in {percent} %"] = 100 * wide(table, main)[MEAN]
        heading += f"; last column: outcomes inside the {percent} % interval, %"
    width = max([len(name) for name in table] + [16])
    lines = [" " * (width + 2) + "".join(f"{name:>8}" for name in skill.columns)]
    for name, values in zip(table, skill.to_numpy(), strict=True):
        lines.append(f"  {name.replace('_', ' '):<{width}}" + "".join(f"{value:>8.2f}" for value in values))
    return "\n".join([textwrap.fill(f"Scores on {anchor_set}", 79), "", heading, *lines])

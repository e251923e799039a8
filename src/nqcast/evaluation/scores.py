"""The score table: every forecast on the same anchors, each horizon and the mean, and its rendering as text."""

import textwrap
from collections.abc import Mapping, Sequence

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
) -> pd.DataFrame:
    """One row per (forecast, horizon) and one per forecast for the mean over horizons.

    ``forecasts`` maps a name to quantiles (N, H, Q) at the same N anchors. Columns: n (defined targets),
    mean_pinball, crps, wis (where the levels pair), skill_<reference> for each of `REFERENCES` present; picp, width
    and winkler of every central interval (picp_80 …), crossing_rate, q05 … (coverage of each level). Losses and widths
    in log-return units; the mean row is the plain mean of the horizons' rows, its n their sum.
    """
    references = [name for name in REFERENCES if name in forecasts]
    loss = {name: metrics.mean_pinball(q, targets_NH, levels) for name, q in forecasts.items()}
    blocks = []
    for name, quantiles in forecasts.items():
        block = _scores_of_one(quantiles, targets_NH, levels, horizons)
        for reference in references:
            block[f"skill_{reference}"] = metrics.skill(loss[name], loss[reference])
        mean = block.drop(columns="horizon").mean().to_frame().T.assign(horizon=MEAN, n=block["n"].sum())
        blocks.append(pd.concat([block, mean], ignore_index=True).assign(forecast=name))
    table = pd.concat(blocks, ignore_index=True).astype({"n": "int64"})
    skills = [f"skill_{reference}" for reference in references]
    leading = ["forecast", "horizon", "n", "mean_pinball", *skills]
    return table[[*leading, *[c for c in table.columns if c not in leading]]]


def _scores_of_one(
    quantiles_NHQ: Floats, targets_NH: Floats, levels: Sequence[float], horizons: Sequence[str]
) -> pd.DataFrame:
    block = pd.DataFrame({"horizon": list(horizons), "n": np.isfinite(targets_NH).sum(axis=0)})
    block["mean_pinball"] = metrics.mean_pinball(quantiles_NHQ, targets_NH, levels)
    block["crps"] = metrics.mean_defined(metrics.crps(quantiles_NHQ, targets_NH, levels))
    if metrics.symmetric(levels):
        block["wis"] = metrics.mean_defined(metrics.weighted_interval_score(quantiles_NHQ, targets_NH, levels))
    for percent in metrics.central_intervals(levels):
        for name, of in (("picp", metrics.inside), ("width", metrics.width), ("winkler", metrics.winkler)):
            block[f"{name}_{percent:g}"] = metrics.mean_defined(of(quantiles_NHQ, targets_NH, levels, percent))
    block["crossing_rate"] = [metrics.crossing_rate(quantiles_NHQ[:, h]) for h in range(len(horizons))]
    coverage = metrics.coverage_by_level(quantiles_NHQ, targets_NH, levels)
    return block.assign(**{level_name(tau): coverage[:, i] for i, tau in enumerate(levels)})


def add_truth(
    forecasts: Mapping[str, Floats],
    anchors: Forecasts,
    true_quantiles: pd.DataFrame,
    levels: Sequence[float],
    horizons: Sequence[str],
) -> pd.DataFrame:
    """Gap to the true conditional quantiles and share of the learnable skill, on the anchors where truth is known.

    ``true_quantiles`` has ts, horizon, q05 … (NaN: undefined, left out). Columns of the result: forecast, horizon, n,
    mean_pinball, true_pinball, gap (their difference, log-return units) and learnable_share =
    (L_constants − L) / (L_constants − L_true); the mean row averages the horizons' losses and shares. ValueError
    when no anchor has a true quantile.
    """
    truth_NHQ = _truth_at(anchors.ts, true_quantiles, levels, horizons)
    undefined_NH = np.asarray(np.isnan(truth_NHQ).any(axis=2))
    known = np.flatnonzero(~undefined_NH.all(axis=1))
    if not known.size:
        raise ValueError("expected true quantiles at some scored anchors, found none: ask the market for those anchors")
    targets = np.where(undefined_NH, np.nan, anchors.targets)[known]
    truth_NHQ = np.where(undefined_NH[:, :, None], 0.0, truth_NHQ)
    truth = truth_NHQ[known]
    true_loss = metrics.mean_pinball(truth, targets, levels)
    constant = metrics.mean_pinball(forecasts["constants"][known], targets, levels)
    blocks = []
    for name, quantiles in {**forecasts, "truth": truth_NHQ}.items():
        loss = metrics.mean_pinball(quantiles[known], targets, levels)
        block = pd.DataFrame({"forecast": name, "horizon": list(horizons), "n": np.isfinite(targets).sum(axis=0)})
        block = block.assign(mean_pinball=loss, true_pinball=true_loss, gap=loss - true_loss)
        block["learnable_share"] = (constant - loss) / (constant - true_loss)
        numbers = block.drop(columns=["forecast", "horizon"]).mean().to_frame().T
        mean = numbers.assign(forecast=name, horizon=MEAN, n=block["n"].sum())
        blocks.append(pd.concat([block, mean], ignore_index=True))
    return pd.concat(blocks, ignore_index=True).astype({"n": "int64"})


def _truth_at(ts: pd.Series, true_quantiles: pd.DataFrame, levels: Sequence[float], horizons: Sequence[str]) -> Floats:
    names = [level_name(tau) for tau in levels]
    indexed = true_quantiles.set_index(["horizon", "ts"])[names]
    return np.stack([indexed.loc[h].reindex(pd.DatetimeIndex(ts)).to_numpy(dtype=float) for h in horizons], axis=1)


def score_by_group(
    forecasts: Mapping[str, Floats],
    targets_NH: Floats,
    group_N: NDArray[np.object_],
    levels: Sequence[float],
    horizons: Sequence[str],
) -> pd.DataFrame:
    """The score table of each group of anchors (session part, weekday, volatility tercile …), with a column group."""
    blocks = []
    for group in pd.unique(pd.Series(group_N).dropna()):
        chosen = np.asarray(group_N) == group
        part = {name: quantiles[chosen] for name, quantiles in forecasts.items()}
        blocks.append(score_table(part, targets_NH[chosen], levels, horizons).assign(group=group))
    table = pd.concat(blocks, ignore_index=True)
    return table[["group", *[c for c in table.columns if c != "group"]]]


def describe_anchors(anchors: Forecasts) -> str:
    """One sentence that names the anchor set: how many, from when to when, in how many sessions."""
    first, last = anchors.ts.iloc[0], anchors.ts.iloc[-1]
    return (
        f"{len(anchors.ts):,} anchors (traded bars outside the halt with a full window and a defined target) "
        f"from {first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC in {anchors.session.nunique()} sessions"
    )


def render_scores(table: pd.DataFrame, anchor_set: str) -> str:
    """The score table as plain text of at most 80 columns: skill by horizon and coverage, forecasts down."""
    skill = 100 * _wide(table, "skill_constants")
    heading = "Skill over constants, %"
    covered = [c for c in table.columns if c.startswith("picp_")]
    main = min(covered, key=lambda name: abs(float(name.removeprefix("picp_")) - 80), default=None)
    if main is not None:
        percent = main.removeprefix("picp_")
        skill[f"in {percent} %"] = 100 * _wide(table, main)[MEAN]
        heading += f"; last column: outcomes inside the {percent} % interval, %"
    return "\n".join([textwrap.fill(f"Scores on {anchor_set}", 79), "", heading, _text(skill, 2)])


def _wide(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """One figure with forecasts down and horizons across, both in the table's order."""
    wide = table.pivot(index="forecast", columns="horizon", values=column)
    return wide.loc[table["forecast"].unique(), table["horizon"].unique()]


def _text(wide: pd.DataFrame, digits: int) -> str:
    width = max([len(str(name)) for name in wide.index] + [16])
    head = " " * (width + 2) + "".join(f"{name!s:>8}" for name in wide.columns)
    rows = [
        f"  {str(name).replace('_', ' '):<{width}}" + "".join(f"{value:>8.{digits}f}" for value in values)
        for name, values in zip(wide.index, wide.to_numpy(), strict=True)
    ]
    return "\n".join([head, *rows])

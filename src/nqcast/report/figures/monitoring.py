"""Monitoring in one picture: drift of the features, rolling coverage and rolling skill, each with its limits."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nqcast.monitoring.text import closeness
from nqcast.report.figures import style


def draw_monitor(checks: pd.DataFrame, rolling: pd.DataFrame) -> Figure:
    """Left: PSI over its limit per feature. Right: skill over SeasonalHAR and coverage of the outer levels, rolling.

    Both frames are those of `compare.monitor`.
    """
    figure = style.new_figure(12.0, 6.6)
    grid = figure.add_gridspec(2, 2, width_ratios=[1, 1.7])
    _drift_panel(figure.add_subplot(grid[:, 0]), checks[checks["family"] == "feature drift"])
    upper = figure.add_subplot(grid[0, 1])
    _skill_panel(upper, checks, rolling)
    upper.tick_params(axis="x", labelbottom=False)
    _coverage_panel(figure.add_subplot(grid[1, 1], sharex=upper), checks, rolling)
    return style.with_source(figure, rolling.attrs.get("source", ""))


def _drift_panel(axes: Axes, rows: pd.DataFrame) -> None:
    """How much of the way to its limit each feature has gone."""
    share = closeness(rows).to_numpy()
    order, y = np.argsort(share), np.arange(len(rows))
    crossed = rows["crossed"].to_numpy()[order]
    axes.barh(y, share[order], height=0.7, color=np.where(crossed, style.VERMILION, style.BLUE))
    for place in y[crossed]:
        axes.text(share[order][place], place, " crossed", va="center", fontsize=8, color=style.BLACK)
    axes.axvline(1, color=style.BLACK, linewidth=1.2, linestyle="--")
    axes.set_yticks(y, rows["name"].to_numpy()[order])
    axes.set_ylim(-0.8, len(rows) - 0.2)
    axes.set_xlim(0, max(1.15, 1.15 * share.max()))
    style.finish(axes, "Feature drift", "Stability index over its limit", grid="x")


def _skill_panel(axes: Axes, checks: pd.DataFrame, rolling: pd.DataFrame) -> None:
    rows = checks[(checks["family"] == "skill") & (checks["name"] == "seasonal_har")]
    for k, row in enumerate(rows.to_dict("records")):
        series = _series(rolling, row)
        axes.plot(series["session"], 100 * series["value"], label=row["horizon"], linewidth=1.4, **style.line(k))
        colour = style.VERMILION if row["crossed"] else style.SERIES[k % 7]
        limit = [series["session"].iloc[-1]], [100 * row["low"]]  # written beside the curve's newest value
        axes.plot(*limit, marker="_", markersize=14, markeredgewidth=2, color=colour)
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    style.finish(axes, "Skill over SeasonalHAR, rolling (tick: lower limit)", y="%")
    axes.legend(ncols=5, fontsize=8, frameon=False, loc="best")


def _coverage_panel(axes: Axes, checks: pd.DataFrame, rolling: pd.DataFrame) -> None:
    """The level that is nearest to its limit at each horizon, in shares of its limit."""
    rows = checks[checks["family"] == "coverage"]
    worst = rows.loc[closeness(rows).groupby(rows["horizon"], sort=False).idxmax()]
    axes.axhspan(-1, 1, color=style.LIGHT, linewidth=0)
    for k, row in enumerate(worst.to_dict("records")):
        series = _series(rolling, row)
        label = f"{row['horizon']} {row['name']}"
        axes.plot(series["session"], series["value"] / row["high"], label=label, linewidth=1.4, **style.line(k))
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    style.finish(axes, "Coverage less level over its limit, rolling (grey: within)", y="Share of the limit")
    axes.legend(ncols=5, fontsize=8, frameon=False, loc="best")
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.tick_params(axis="x", labelrotation=20)


def _series(rolling: pd.DataFrame, row: dict) -> pd.DataFrame:
    same = (rolling["family"] == row["family"]) & (rolling["name"] == row["name"])
    return rolling[same & (rolling["horizon"] == row["horizon"])].sort_values("session")

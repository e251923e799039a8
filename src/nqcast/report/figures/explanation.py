"""What the network uses: importance of each feature, gates and weights of the variables, attention over time."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nqcast.constants import BAR_MINUTES
from nqcast.evaluation.metrics import Floats
from nqcast.report.figures.style import BLUE, GREY, LIGHT, MARKERS, SERIES, VERMILION, finish, new_figure


def importance_by_feature(importance: Mapping[str, Any], horizons: Sequence[str]) -> Figure:
    """Rise of the loss per feature (rows, the greatest mean first) and horizon (panels), %, with intervals.

    ``importance`` is {feature: {horizon: {rise, low, high}}}; a point is filled where its interval excludes zero.
    """
    order = sorted(importance, key=lambda name: importance[name]["mean"]["rise"])
    figure = new_figure(11.0, 6.4)
    panels = figure.subplots(1, len(horizons), sharey=True, squeeze=False)[0]
    y = np.arange(len(order))
    for axes, horizon in zip(panels, horizons, strict=True):
        low, rise, high = (
            100 * np.array([importance[name][horizon][key] for name in order]) for key in ("low", "rise", "high")
        )
        axes.axvline(0, color=GREY, linewidth=0.8)
        axes.hlines(y, low, high, color=BLUE, linewidth=1.1)
        sure = (low > 0) | (high < 0)
        for chosen, fill, label in ((sure, BLUE, "interval excludes zero"), (~sure, "white", "includes zero")):
            axes.plot(rise[chosen], y[chosen], "o", color=BLUE, markerfacecolor=fill, markersize=4.5, label=label)
        finish(axes, horizon, "Rise of the loss, %", grid="x")
        axes.locator_params(axis="x", nbins=4)
    panels[0].set_yticks(y, order)
    panels[0].set_ylim(-0.8, len(order) - 0.2)
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=9, frameon=False
    )
    return figure


def variables_inside(gates: Sequence[Mapping[str, Any]], pool: Mapping[str, float], attention: Sequence[Any]) -> Figure:
    """Gate values and pool weights per feature, and who looks at whom in the last variable block.

    ``gates`` holds {feature: {mean, low, high}} per block, ``pool`` {feature: weight}, ``attention`` an (F, F) table
    per block, whose row looks at its columns. What a model lacks (gates, blocks) is left out.
    """
    names = list(pool)
    figure = new_figure(11.0, 6.2)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1, 1, 2.1])
    y = np.arange(len(names), dtype=float)[::-1]
    _gate_panel(left, gates, names, y)
    middle.barh(y, [100 * pool[name] for name in names], height=0.7, color=BLUE)
    middle.axvline(100 / len(names), color=VERMILION, linewidth=1.2, linestyle="--")
    middle.set_yticks(y, [])
    finish(middle, "Pool over variables", "Weight, % (dashed: all equal)", grid="x")
    for axes in (left, middle):
        axes.set_ylim(-0.8, len(names) - 0.2)
    if attention:
        _attention_panel(right, 100 * np.asarray(attention[-1], dtype=float), names, figure)
    else:
        right.set_axis_off()
    return figure


def _gate_panel(axes: Axes, gates: Sequence[Mapping[str, Any]], names: Sequence[str], y: Floats) -> None:
    for k, block in enumerate(gates):
        place = y + (k - (len(gates) - 1) / 2) * 0.3
        low, mean, high = (np.array([block[name][key] for name in names]) for key in ("low", "mean", "high"))
        axes.hlines(place, low, high, color=SERIES[k % 7], linewidth=1.4)
        label = f"block {k + 1}" if len(gates) > 1 else None
        axes.plot(mean, place, MARKERS[k % 7], color=SERIES[k % 7], markersize=4.5, label=label)
    axes.set_xlim(0, 1)
    axes.set_yticks(y, names)
    finish(axes, "Gates", "Mean and middle 80 %" if gates else "the model has none", grid="x")
    if len(gates) > 1:
        axes.legend(fontsize=8, frameon=False)


def _attention_panel(axes: Axes, percent_FF: Floats, names: Sequence[str], figure: Figure) -> None:
    image = axes.imshow(percent_FF, cmap="cividis", aspect="auto", vmin=0.0)
    axes.set_xticks(np.arange(len(names)), names, rotation=90)
    axes.set_yticks(np.arange(len(names)), names)
    finish(axes, "Attention over variables, last block", "Looked at", "Looks")
    axes.grid(visible=False)
    axes.tick_params(labelsize=7.5)
    bar = figure.colorbar(image, ax=axes, shrink=0.7, label="Weight, %")
    bar.ax.tick_params(labelsize=8)


def attention_over_time(time: Mapping[str, Any]) -> Figure:
    """Weight of each patch by its age: mean over variables and the middle 80 % of them, over that of equal weights.

    ``time`` holds patch_bars, bar_minutes unless five, pool and rollout, both {feature: weights, newest patch first}.
    """
    pool_FP, rollout_FP = (np.array(list(time[name].values()), dtype=float) for name in ("pool", "rollout"))
    n = pool_FP.shape[1]
    hours = (np.arange(n) + 0.5) * time["patch_bars"] * time.get("bar_minutes", BAR_MINUTES) / 60
    figure = new_figure(9.0, 3.8)
    axes = figure.subplots()
    low, high = np.quantile(n * pool_FP, [0.1, 0.9], axis=0)
    axes.fill_between(hours, low, high, color=LIGHT, linewidth=0, label="pool, middle 80 % of the variables")
    axes.plot(hours, n * pool_FP.mean(axis=0), "-o", color=BLUE, markersize=3, label="pool, mean of the variables")
    traced = n * rollout_FP.mean(axis=0)
    axes.plot(hours, traced, "--s", color=VERMILION, markersize=3, label="traced through the time blocks")
    axes.axhline(1, color=GREY, linewidth=0.8)
    axes.invert_xaxis()
    axes.set_ylim(bottom=0)
    age = "Age of the patch when the forecast is made, hours of trading"
    finish(axes, "Attention over time", age, "Weight over an equal one")
    axes.legend(fontsize=9, frameon=False, loc="upper left")
    return figure

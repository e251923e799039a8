"""A tuning in one figure: how the best value fell trial by trial, and the value against each parameter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nqcast.experiments.search_space import SearchParameter, as_choice
from nqcast.report.figures.style import BLACK, BLUE, GREY, VERMILION, finish, new_figure

COLUMNS = 3


def tuning_figure(told: Mapping[str, Any], space: Mapping[str, SearchParameter]) -> Figure:
    """History above, one panel per parameter below; circles are whole trials, crosses pruned ones, the star the best.

    Args:
        told: what `Tuning.run` returns.
        space: what was searched; choices are drawn as categories, ranges on their own scale.
    """
    rows = [row for row in told["trials"] if row["value"] is not None and row["state"] != "failed"]
    names = list(told["best"]["parameters"])
    n_below = -(-len(names) // COLUMNS)
    figure = new_figure(9.0, 3.0 + 2.3 * n_below)
    grid = figure.add_gridspec(1 + n_below, COLUMNS, height_ratios=[1.4] + [1.0] * n_below)
    _history(figure.add_subplot(grid[0, :]), told, rows)
    for i, name in enumerate(names):
        axes = figure.add_subplot(grid[1 + i // COLUMNS, i % COLUMNS])
        _against(axes, told, rows, name, space[name])
    return figure


def _history(axes: Axes, told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    _points(axes, rows, [row["trial"] for row in rows], told)
    whole = [row for row in rows if row["state"] == "complete"]
    best = np.minimum.accumulate([row["value"] for row in whole])
    axes.step([row["trial"] for row in whole], best, where="post", color=BLACK, linewidth=1.2, label="best so far")
    if told["configured"] is not None:
        axes.axhline(told["configured"], color=GREY, linestyle="--", linewidth=1, label="configured values")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(axes, "Tuning on validation", "Trial", told["objective"]).legend(fontsize=8.5, frameon=False, ncols=3)


def _against(
    axes: Axes, told: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], name: str, parameter: SearchParameter
) -> None:
    values = [row["parameters"][name] for row in rows]
    if parameter.choices is None:
        _points(axes, rows, values, told)
        axes.set_xscale("log" if parameter.log else "linear")
    else:
        texts = [str(as_choice(choice)) for choice in parameter.choices]
        _points(axes, rows, [texts.index(str(as_choice(value))) for value in values], told)
        axes.set_xticks(range(len(texts)), texts)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    finish(axes, "", name, "")


def _points(axes: Axes, rows: Sequence[Mapping[str, Any]], x: Sequence[float], told: Mapping[str, Any]) -> None:
    for state, marker, color in (("complete", "o", BLUE), ("pruned", "x", VERMILION)):
        chosen = [i for i, row in enumerate(rows) if row["state"] == state]
        if chosen:
            at, value = [x[i] for i in chosen], [rows[i]["value"] for i in chosen]
            axes.scatter(at, value, s=22, marker=marker, color=color, linewidths=1.2, label=state)
    best = next(i for i, row in enumerate(rows) if row["trial"] == told["best"]["trial"])
    axes.plot(x[best], rows[best]["value"], "*", color=BLACK, markersize=12, zorder=5)

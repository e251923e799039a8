"""Equity of all horizons together beside its controls, and what each horizon earned per session."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nqcast.report.figures import style

PERCENT, BASIS_POINTS = 100.0, 1e4
ALL, HOLD = "all", "buy_and_hold"


def draw_equity(sessions: pd.DataFrame, results: Mapping[str, Any]) -> Figure:
    """Cumulative profit before and after costs, buy-and-hold scaled to the same volatility, and books with intervals.

    ``sessions`` and ``results`` are those of `backtest.run.backtest`.
    """
    figure = style.new_figure(11.0, 4.6)
    left, right = figure.subplots(1, 2, width_ratios=[1.7, 1])
    _equity_panel(left, sessions)
    _books_panel(right, results["books"])
    return style.with_source(figure, sessions.attrs.get("source", ""))


def _equity_panel(axes: Axes, sessions: pd.DataFrame) -> None:
    book = sessions[sessions["book"] == ALL].sort_values("session")
    hold = sessions[sessions["book"] == HOLD].sort_values("session")
    dates, spread = book["session"].to_numpy(), float(hold["net"].std())
    share = float(book["net"].std()) / spread if spread > 0 else 0.0
    lines = (
        (book["gross"], "before costs", style.GREEN, "-."),
        (book["net"], "after costs", style.BLUE, "-"),
        (share * hold["net"], "buy and hold, same volatility", style.VERMILION, "--"),
    )
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    for values, label, colour, dashes in lines:
        equity = PERCENT * np.cumsum(values.to_numpy())
        axes.plot(dates, equity, color=colour, linestyle=dashes, linewidth=1.6, label=label)
    style.finish(axes, "All horizons, nothing reinvested", y="Profit, % of the capital")
    axes.tick_params(axis="x", labelrotation=20)
    axes.legend(fontsize=9, frameon=False, loc="best")


def _books_panel(axes: Axes, books: Mapping[str, Any]) -> None:
    places = np.arange(len(books), dtype=float)
    rows = (
        ("net", "after costs", style.BLUE, -0.2),
        ("always_long", "always long, after costs", style.ORANGE, 0.0),
        ("random_signs", "random signs, before costs", style.BLACK, 0.2),
    )
    for k, (key, label, colour, shift) in enumerate(rows):
        points = [BASIS_POINTS * np.array([b[key][end] for b in books.values()]) for end in ("value", "low", "high")]
        style.with_intervals(axes, places + shift, points, k, colour, label)
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    axes.set_xticks(places, list(books))
    style.finish(axes, "Per session", "Horizon", "Basis points of the capital")
    axes.legend(fontsize=9, frameon=False, loc="best")

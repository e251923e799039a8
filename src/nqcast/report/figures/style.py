"""One look for all figures: fonts, colours, axes. No global state of matplotlib is touched."""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from nqcast.constants import SIMULATED
from nqcast.evaluation.metrics import Floats

BLACK, GREY, LIGHT = "#1a1a1a", "#6b6b6b", "#d9d9d9"
BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7"
SERIES = (BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
BANDS = ("#cfe3f1", "#9dc8e3", "#5ba3d0")  # widest interval first


MARK_INCHES = 0.22  # height of the strip above a figure that names a simulated market


def new_figure(width: float = 8.0, height: float = 4.5) -> Figure:
    """An empty figure (inches) that lays itself out; not registered with pyplot, so nothing has to be closed."""
    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def with_source(figure: Figure, source: str) -> Figure:
    """The figure, with a word in its corner where no exchange has traded what it shows."""
    engine = figure.get_layout_engine()
    if source.startswith(SIMULATED) and isinstance(engine, ConstrainedLayoutEngine):
        engine.set(rect=(0, 0, 1, 1 - MARK_INCHES / figure.get_figheight()))
        figure.text(0.995, 0.995, source, ha="right", va="top", fontsize=8.5, fontweight="bold", color=VERMILION)
    return figure


def finish(axes: Axes, title: str = "", x: str = "", y: str = "", grid: Literal["x", "y", "both"] = "y") -> Axes:
    """Title, labels, a quiet grid and no box; a dollar in a contract's name begins no formula."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=BLACK, parse_math=False)
    axes.set_xlabel(x, fontsize=9.5, color=BLACK, parse_math=False)
    axes.set_ylabel(y, fontsize=9.5, color=BLACK, parse_math=False)
    axes.tick_params(labelsize=9, color=GREY, labelcolor=BLACK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    axes.grid(axis=grid, color=LIGHT, linewidth=0.6)
    axes.set_axisbelow(True)
    return axes


def line(k: int) -> dict[str, Any]:
    """What tells the k-th of several lines from the others."""
    return {"color": SERIES[k % 7], "linestyle": DASHES[k % 7]}


def with_intervals(axes: Axes, x: Floats, points: Sequence[Floats], k: int, colour: str, label: str) -> None:
    """The k-th series of points, each with its interval; ``points`` are their values, lower and upper ends."""
    value, low, high = points
    spread = np.vstack([np.maximum(value - low, 0.0), np.maximum(high - value, 0.0)])
    axes.errorbar(
        x, value, yerr=spread, fmt=MARKERS[k % 7], color=colour, markersize=5, capsize=2.5, linewidth=1.2, label=label
    )


def days(times: pd.Index | pd.Series | list[pd.Timestamp]) -> Floats:
    """Stamps as matplotlib takes them: days since the epoch, UTC."""
    return np.asarray(date2num(pd.DatetimeIndex(times).to_pydatetime()), dtype=float)

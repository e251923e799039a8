"""Does the forecast scale follow the volatility that comes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

from nqcast.evaluation.frames import Forecasts
from nqcast.report.figures.style import BLACK, MARKERS, SERIES, finish, new_figure

BINS = 20


def scale_against_realised(anchors: Forecasts, horizons: Sequence[str]) -> Figure:
    """Mean absolute return after the forecast against the forecast scale, in twenty equal groups of anchors, log axes.

    A Laplace fit makes the scale the expected absolute return, so the points of a good scale lie on the diagonal.
    """
    figure = new_figure(5.6, 5.2)
    axes = figure.subplots()
    for h, name in enumerate(horizons):
        defined = np.isfinite(anchors.targets[:, h])
        scale, move = anchors.scale[defined, h], np.abs(anchors.targets[defined, h])
        groups = [g for g in np.array_split(np.argsort(scale, kind="stable"), BINS) if g.size]
        x, y = (1e4 * np.array([values[g].mean() for g in groups]) for values in (scale, move))
        axes.plot(x, y, MARKERS[h % 7], color=SERIES[h % 7], markersize=4.5, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # 2, 5, 10, 20 …: labels that neither overprint nor need a power of ten
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    ends = [max(axes.get_xlim()[0], axes.get_ylim()[0]), min(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, color=BLACK, linewidth=1, linestyle="--", label="as forecast")
    finish(
        axes, "Scale and what came", "Forecast scale, basis points", "Mean absolute return, basis points", grid="both"
    )
    axes.legend(fontsize=9, frameon=False)
    return figure

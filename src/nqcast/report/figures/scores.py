"""How good the forecasts are and whether they are calibrated: skill, loss, reliability, PIT, coverage, scale."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.evaluation import metrics
from nqcast.evaluation.coverage import coverage_band
from nqcast.evaluation.frames import Forecasts
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import Estimate, session_sums
from nqcast.report.figures import style


def reliability_diagram(anchors: Forecasts, resamples_RS: NDArray[np.int64], confidence: float = 0.95) -> Figure:
    """Share of outcomes at or below each quantile, less the quantile's level, per horizon, in points.

    The grey band is where a calibrated forecast would lie (`coverage_band`); points outside it are filled.
    """
    levels, horizons = anchors.levels, anchors.horizons
    error = 100 * (metrics.coverage_by_level(anchors.quantiles, anchors.targets, levels) - np.asarray(levels))
    low, high = (100 * band for band in coverage_band(anchors, resamples_RS, confidence))
    figure = style.new_figure(10.0, 3.2)
    panels = figure.subplots(1, len(horizons), sharey=True, squeeze=False)[0]
    x = 100 * np.asarray(levels)
    for h, (axes, name) in enumerate(zip(panels, horizons, strict=True)):
        band = f"{confidence:.0%} band if calibrated"
        axes.fill_between(x, low[h], high[h], color=style.LIGHT, linewidth=0, label=band)
        axes.axhline(0, color=style.GREY, linewidth=0.8)
        axes.plot(x, error[h], color=style.BLUE, linewidth=1)
        outside = (error[h] < low[h]) | (error[h] > high[h])
        for chosen, colour, fill in ((outside, style.VERMILION, style.VERMILION), (~outside, style.BLUE, "white")):
            label = "outside the band" if colour == style.VERMILION else "inside"
            axes.plot(x[chosen], error[h][chosen], "o", color=colour, markerfacecolor=fill, markersize=5, label=label)
        style.finish(axes, name, "Level of the quantile, %", "Observed less nominal, points" if h == 0 else "")
        axes.set_xticks([x[0], 25, 50, 75, x[-1]])
    figure.legend(
        *panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=9, frameon=False
    )
    return figure


def pit_histogram(anchors: Forecasts) -> Figure:
    """Outcomes between neighbouring quantiles over what was forecast; 1 everywhere for a calibrated forecast."""
    levels, horizons = anchors.levels, anchors.horizons
    shares = metrics.pit_shares(anchors.quantiles, anchors.targets, levels)
    edges = np.concatenate([[0.0], levels, [1.0]])
    figure = style.new_figure(10.0, 2.9)
    panels = figure.subplots(1, len(horizons), sharey=True, squeeze=False)[0]
    for h, (axes, name) in enumerate(zip(panels, horizons, strict=True)):
        height, width = shares[h] / np.diff(edges), np.diff(edges)
        axes.bar(edges[:-1], height, width, align="edge", color=style.SKY, edgecolor="white")
        axes.axhline(1, color=style.BLACK, linewidth=1, linestyle="--")
        style.finish(axes, name, "Forecast probability", "Observed over forecast" if h == 0 else "")
        axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "¼", "½", "¾", "1"])
    return figure


def coverage_over_time(anchors: Forecasts, percent: float = 80, sessions: int = 20) -> Figure:
    """Share of outcomes inside the central interval over the last ``sessions`` sessions, per horizon.

    Of a test split of few sessions, over the last third of them: every line has more than a point.
    """
    hits = metrics.inside(anchors.quantiles, anchors.targets, anchors.levels, percent)
    hit_S, count_S = (session_sums(values, anchors.session) for values in (hits, np.isfinite(hits)))
    dates = pd.DatetimeIndex(np.unique(anchors.session.to_numpy()))
    span = min(sessions, max(len(dates) // 3, 1))
    share = pd.DataFrame(hit_S).rolling(span).sum() / pd.DataFrame(count_S).rolling(span).sum()
    figure = style.new_figure(9.0, 3.6)
    axes = figure.subplots()
    for h, name in enumerate(anchors.horizons):
        axes.plot(dates.to_numpy(), share[h].to_numpy(), linewidth=1.4, **style.line(h))
        axes.plot([], [], label=name, **style.line(h))
    axes.axhline(percent / 100, color=style.BLACK, linewidth=1)
    style.finish(axes, f"Inside the {percent:g} % interval, last {span} sessions", y="Share of outcomes")
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(axis="x", labelrotation=20)
    axes.legend(ncols=len(anchors.horizons), fontsize=9, frameon=False, loc="best")
    return figure


BINS = 20


def scale_against_realised(anchors: Forecasts) -> Figure:
    """Mean absolute return after the forecast against the forecast scale, in twenty equal groups of anchors, log axes.

    A Laplace fit makes the scale the expected absolute return, so the points of a good scale lie on the diagonal.
    """
    figure = style.new_figure(5.6, 5.2)
    axes = figure.subplots()
    for h, name in enumerate(anchors.horizons):
        defined = np.isfinite(anchors.targets[:, h])
        scale, move = anchors.scale[defined, h], np.abs(anchors.targets[defined, h])
        groups = [g for g in np.array_split(np.argsort(scale, kind="stable"), BINS) if g.size]
        x, y = (1e4 * np.array([values[g].mean() for g in groups]) for values in (scale, move))
        axes.plot(x, y, style.MARKERS[h % 7], color=style.SERIES[h % 7], markersize=4.5, label=name)
    axes.set_xscale("log")
    axes.set_yscale("log")
    for axis in (axes.xaxis, axes.yaxis):  # 2, 5, 10, 20 …: labels that neither overprint nor need a power of ten
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FormatStrFormatter("%g"))
        axis.set_minor_formatter(NullFormatter())
    ends = [max(axes.get_xlim()[0], axes.get_ylim()[0]), min(axes.get_xlim()[1], axes.get_ylim()[1])]
    axes.plot(ends, ends, color=style.BLACK, linewidth=1, linestyle="--", label="as forecast")
    style.finish(
        axes, "Scale and what came", "Forecast scale, basis points", "Mean absolute return, basis points", grid="both"
    )
    axes.legend(fontsize=9, frameon=False)
    return figure


def skill_by_horizon(estimates: Mapping[str, Estimate], horizons: Sequence[str]) -> Figure:
    """Skill over constants per horizon and in the mean, in per cent, with the interval of its estimate.

    ``estimates`` holds H + 1 values, the last of the mean over horizons.
    """
    figure = style.new_figure(9.0, 4.2)
    axes = figure.subplots()
    places = np.arange(len(horizons) + 1, dtype=float)
    places[-1] += 0.4
    for k, (name, estimate) in enumerate(estimates.items()):
        x = places + (k - (len(estimates) - 1) / 2) * 0.8 / max(len(estimates), 1)
        points = [100 * part for part in (estimate.value, estimate.low, estimate.high)]
        style.with_intervals(axes, x, points, k, style.SERIES[k % 7], name.replace("_", " "))
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    axes.set_xticks(places, [*horizons, "mean"])
    style.finish(axes, "Skill over constants", "Horizon", "Skill, %")
    figure.legend(loc="outside lower center", ncols=min(len(estimates), 4), fontsize=9, frameon=False)
    return figure


def gain_by_session(loss_NH: Floats, reference_NH: Floats, session_N: pd.Series) -> Figure:
    """Gain over a reference, summed over the sessions: the last point is the gain, in % of the reference's loss."""
    base_H = np.nansum(reference_NH, axis=0)
    gain_N = np.nan_to_num((reference_NH - loss_NH) / base_H).mean(axis=1)
    by_session = pd.Series(gain_N).groupby(session_N.to_numpy()).sum()
    figure = style.new_figure(9.0, 3.2)
    axes = figure.subplots()
    gained = np.concatenate([[0.0], 100 * by_session.cumsum()])  # the first session's own step is seen too
    axes.step([by_session.index[0], *by_session.index], gained, where="post", color=style.SERIES[0], linewidth=1.5)
    axes.axhline(0, color=style.GREY, linewidth=0.8)
    style.finish(axes, "Gain, session upon session", "Session", "% of the reference's loss")
    return figure


def pinball_by_time_of_day(losses: Mapping[str, Floats], ts: pd.Series, horizon: str) -> Figure:
    """Mean of the pinball losses (N,) that forecasts have at one horizon, by half-hour of exchange time, in 1e-4."""
    local = pd.DatetimeIndex(ts).tz_convert(EXCHANGE_TIMEZONE)
    slot = (local.hour * 2 + local.minute // 30).to_numpy()
    order = np.concatenate([np.arange(34, 48), np.arange(34)])  # the session's own order: from 17:00
    figure = style.new_figure(9.0, 4.0)
    axes = figure.subplots()
    for k, (forecast, loss_N) in enumerate(losses.items()):
        values = 1e4 * pd.Series(loss_N).groupby(slot).mean().reindex(order).to_numpy(dtype=float)
        label = forecast.replace("_", " ")
        axes.plot(np.arange(48) / 2, values, linewidth=1.5, label=label, **style.line(k))
    axes.set_xticks(np.arange(0, 24, 2), [f"{(17 + hour) % 24:02d}:00" for hour in range(0, 24, 2)])
    style.finish(
        axes, f"Loss through the day, {horizon} ahead", "Time the forecast is made (Chicago)", "Mean pinball, 1e-4"
    )
    axes.legend(fontsize=9, frameon=False, loc="best")
    return figure

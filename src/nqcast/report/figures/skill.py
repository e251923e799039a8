"""How good the forecasts are: skill by horizon with intervals, and loss through the day."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import Estimate
from nqcast.report.figures.style import GREY, SERIES, finish, line, new_figure, with_intervals


def skill_by_horizon(estimates: Mapping[str, Estimate], horizons: Sequence[str]) -> Figure:
    """Skill over constants per horizon and in the mean, in per cent, with the interval of its estimate.

    ``estimates`` holds H + 1 values, the last of the mean over horizons.
    """
    figure = new_figure(9.0, 4.2)
    axes = figure.subplots()
    places = np.arange(len(horizons) + 1, dtype=float)
    places[-1] += 0.4
    for k, (name, estimate) in enumerate(estimates.items()):
        x = places + (k - (len(estimates) - 1) / 2) * 0.8 / max(len(estimates), 1)
        points = [100 * part for part in (estimate.value, estimate.low, estimate.high)]
        with_intervals(axes, x, points, k, SERIES[k % 7], name.replace("_", " "))
    axes.axhline(0, color=GREY, linewidth=0.8)
    axes.set_xticks(places, [*horizons, "mean"])
    finish(axes, "Skill over constants", "Horizon", "Skill, %")
    figure.legend(loc="outside lower center", ncols=min(len(estimates), 4), fontsize=9, frameon=False)
    return figure


def gain_by_session(loss_NH: Floats, reference_NH: Floats, session_N: pd.Series) -> Figure:
    """Gain over a reference, summed over the sessions: the last point is the gain, in % of the reference's loss."""
    base_H = np.nansum(reference_NH, axis=0)
    gain_N = np.nan_to_num((reference_NH - loss_NH) / base_H).mean(axis=1)
    by_session = pd.Series(gain_N).groupby(session_N.to_numpy()).sum()
    figure = new_figure(9.0, 3.2)
    axes = figure.subplots()
    gained = np.concatenate([[0.0], 100 * by_session.cumsum()])  # the first session's own step is seen too
    axes.step([by_session.index[0], *by_session.index], gained, where="post", color=SERIES[0], linewidth=1.5)
    axes.axhline(0, color=GREY, linewidth=0.8)
    finish(axes, "Gain, session upon session", "Session", "% of the reference's loss")
    return figure


def pinball_by_time_of_day(losses: Mapping[str, Floats], ts: pd.Series, horizon: str) -> Figure:
    """Mean of the pinball losses (N,) that forecasts have at one horizon, by half-hour of exchange time, in 1e-4."""
    local = pd.DatetimeIndex(ts).tz_convert(EXCHANGE_TIMEZONE)
    slot = (local.hour * 2 + local.minute // 30).to_numpy()
    order = np.concatenate([np.arange(34, 48), np.arange(34)])  # the session's own order: from 17:00
    figure = new_figure(9.0, 4.0)
    axes = figure.subplots()
    for k, (forecast, loss_N) in enumerate(losses.items()):
        values = 1e4 * pd.Series(loss_N).groupby(slot).mean().reindex(order).to_numpy(dtype=float)
        label = forecast.replace("_", " ")
        axes.plot(np.arange(48) / 2, values, linewidth=1.5, label=label, **line(k))
    axes.set_xticks(np.arange(0, 24, 2), [f"{(17 + hour) % 24:02d}:00" for hour in range(0, 24, 2)])
    finish(axes, f"Loss through the day, {horizon} ahead", "Time the forecast is made (Chicago)", "Mean pinball, 1e-4")
    axes.legend(fontsize=9, frameon=False, loc="best")
    return figure

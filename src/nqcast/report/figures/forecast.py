"""The fan of a forecast as a picture."""

from __future__ import annotations

import pandas as pd
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.forecast.fan import bands_of, fan_paths, heading, past_price
from nqcast.report.figures.style import BANDS as COLOURS
from nqcast.report.figures.style import BLACK, BLUE, GREY, days, finish, new_figure, with_source


def draw_forecast(forecast: pd.DataFrame, recent: pd.DataFrame) -> Figure:
    """Recent price and the fan that goes on from it; times are the exchange's.

    Args:
        forecast: what `Forecaster.forecast` gives.
        recent: ts, raw_close and traded of the bars before it.
    """
    figure = new_figure(10.0, 5.0)
    axes = figure.subplots()
    paths, price = fan_paths(forecast), past_price(recent)
    for (low, high, name), colour in zip(bands_of(map(float, paths.columns)), COLOURS, strict=False):
        axes.fill_between(days(paths.index), paths[low], paths[high], color=colour, linewidth=0, label=name, zorder=2)
    axes.plot(days(paths.index), paths[0.5], color=BLUE, linewidth=1.2, label="median", zorder=3)
    axes.plot(days(price.index), price.to_numpy(), color=BLACK, linewidth=1.2, label="price", zorder=4)
    axes.axvline(float(days(paths.index)[0]), color=GREY, linewidth=0.8, linestyle=":")
    finish(axes, heading(forecast), f"{EXCHANGE_TIMEZONE.split('/')[-1]} time", "Index points")
    locator = AutoDateLocator(tz=EXCHANGE_TIMEZONE)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=EXCHANGE_TIMEZONE))
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    return with_source(figure, forecast.attrs.get("source", ""))

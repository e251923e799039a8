"""The fan of a forecast as a page to look into, with everything it needs inside."""

import html

import pandas as pd
import plotly.graph_objects as go

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.forecast.text import bands_of, fan_paths, heading, past_price

COLOURS = ("#cfe3f1", "#9dc8e3", "#5ba3d0")  # as nqcast.report.figures.style.BANDS
BLACK, BLUE = "#1a1a1a", "#0072B2"


def forecast_figure(forecast: pd.DataFrame, recent: pd.DataFrame) -> go.Figure:
    """The plotly figure: recent price, the fan, and every forecast quantile to hover over; exchange time."""
    figure, paths, price = go.Figure(), fan_paths(forecast), past_price(recent)
    x = _local(paths.index)
    for (low, high, name), colour in zip(bands_of(map(float, paths.columns)), COLOURS, strict=False):
        edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "legendgroup": name, "x": x}
        figure.add_scatter(y=paths[low], showlegend=False, **edge)
        figure.add_scatter(y=paths[high], fill="tonexty", fillcolor=colour, name=name, **edge)
    figure.add_scatter(x=x, y=paths[0.5], mode="lines", line={"color": BLUE}, name="median", hoverinfo="skip")
    figure.add_scatter(x=_local(price.index), y=price, mode="lines", line={"color": BLACK}, name="price")
    defined = forecast[forecast["return_quantile"].notna()]
    figure.add_scatter(
        x=_local(pd.DatetimeIndex(defined["target_time"])),
        y=defined["price_quantile"],
        mode="markers",
        marker={"color": BLUE, "size": 6, "symbol": "line-ew-open"},
        name="quantiles",
        customdata=defined[["horizon", "level", "return_quantile"]].to_numpy(),
        hovertemplate="%{customdata[0]}, %{customdata[1]:.0%}: %{y:,.2f}<br>return %{customdata[2]:+.3%}"
        "<extra></extra>",
    )
    figure.update_layout(
        title=html.escape(heading(forecast), quote=False),  # plotly reads tags in it
        template="plotly_white",
        xaxis_title=f"{EXCHANGE_TIMEZONE.split('/')[-1]} time",
        yaxis_title="Index points",
        yaxis_tickformat=",",
    )
    return figure


def forecast_page(forecast: pd.DataFrame, recent: pd.DataFrame) -> str:
    """One HTML page that needs no network: plotly.js (about 4 MB) is inside."""
    return str(forecast_figure(forecast, recent).to_html(full_html=True, include_plotlyjs=True))


def _local(times: pd.Index) -> list[str]:
    """Exchange time as text: plotly.js has no zones."""
    return list(pd.DatetimeIndex(times).tz_convert(EXCHANGE_TIMEZONE).strftime("%Y-%m-%d %H:%M"))

"""Picture, page and text say what the forecast says."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest

from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.page import forecast_figure, forecast_page
from nqcast.forecast.text import Issued, fan_paths, forecast_text
from nqcast.report.figures.fan import draw_forecast
from nqcast.storage.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def issued(raw: pd.DataFrame, plain_checkpoint: Checkpoint) -> Issued:
    """A forecast whose longest horizon lies beyond the close."""
    return Forecaster(plain_checkpoint, None, ForecastConfig(as_of="2016-03-23T18:00:00Z")).issue(raw)


def test_the_fan_starts_at_the_price_and_meets_every_defined_quantile(issued: Issued) -> None:
    paths = fan_paths(issued.forecast)
    assert (paths.iloc[0] == issued.forecast["last_price"].iloc[0]).all()
    defined = issued.forecast.dropna(subset=["price_quantile"])
    assert len(defined) == 28
    for row in defined.itertuples():
        assert paths.loc[row.target_time, row.level] == pytest.approx(row.price_quantile, rel=1e-12)
    assert paths.index[-1] == defined["target_time"].max()
    assert (np.diff(paths.to_numpy(), axis=1)[1:] > 0).all()


def test_the_picture_shows_price_and_fan(issued: Issued) -> None:
    axes = draw_forecast(issued.forecast, issued.recent).axes[0]
    labels = axes.get_legend_handles_labels()[1]
    assert set(labels) == {"90 %", "80 %", "50 %", "median", "price"}
    price = next(line for line in axes.lines if line.get_label() == "price").get_ydata()
    assert price[-1] == issued.forecast["last_price"].iloc[0]


def test_the_page_needs_no_network_and_holds_every_quantile(issued: Issued) -> None:
    page = forecast_page(issued.forecast, issued.recent)
    assert "<html>" in page[:100] and page.count("Plotly.newPlot") >= 1
    assert not re.search(r"<(script|link)[^>]+(src|href)=", page)
    quantiles = next(t for t in forecast_figure(issued.forecast, issued.recent).data if t.name == "quantiles")
    np.testing.assert_array_equal(np.sort(quantiles.y), np.sort(issued.forecast["price_quantile"].dropna()))


def test_the_text_has_a_line_per_horizon_and_says_which_the_close_cuts_off(issued: Issued) -> None:
    text = forecast_text(issued)
    lines = {line.split()[0]: line for line in text.splitlines() if re.match(r" *(15m|30m|60m|2h|4h)", line)}
    assert list(lines) == ["15m", "30m", "60m", "2h", "4h"]
    assert "the session closes first" in lines["4h"]
    low = issued.forecast["price_quantile"].iloc[0]
    assert f"{low:,.2f}" in lines["15m"]
    assert "history, not the market" in text

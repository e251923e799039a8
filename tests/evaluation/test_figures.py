"""Figures: what is drawn is what the data say, and nothing is left open or printed to a screen."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy import stats

from nqcast.evaluation import figures
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.figures.fan import choose_session
from nqcast.evaluation.forecasts import predictions_frame

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
BARS = 276


def three_sessions() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features of three sessions of unequal variance, and forecasts of known width at every bar."""
    rng = np.random.default_rng(0)
    days = []
    for k, session in enumerate(pd.date_range("2016-08-03", periods=3)):
        ts = pd.date_range(session - pd.Timedelta(hours=2), periods=BARS, freq="5min", tz="UTC").as_unit("ns")
        returns = (k + 1) * 1e-4 * rng.normal(size=BARS)
        day = pd.DataFrame({"ts": ts, "session": session, "traded": True, "contract": "NQU6"})
        day["raw_close"] = 4800 * np.exp(np.cumsum(returns))
        day["realized_variance"] = returns**2
        for name, bars in zip(HORIZONS, (3, 6, 12, 24, 48), strict=True):
            day[f"target_{name}"] = np.log(day["raw_close"].shift(-bars) / day["raw_close"])
        days.append(day)
    features = pd.concat(days, ignore_index=True)
    positions = np.arange(len(features))
    spread = 2e-4 * np.sqrt([3, 6, 12, 24, 48])
    quantiles = np.broadcast_to(spread[:, None] * stats.norm.ppf(LEVELS), (len(features), 5, 7))
    scale = np.broadcast_to(spread, (len(features), 5))
    return features, predictions_frame(features, positions, quantiles, scale, LEVELS, HORIZONS)


def test_the_default_day_is_the_one_of_median_variance_and_a_day_can_be_asked_for() -> None:
    features, predictions = three_sessions()
    assert choose_session(predictions, features, None) == pd.Timestamp("2016-08-04")
    assert choose_session(predictions, features, "2016-08-05") == pd.Timestamp("2016-08-05")
    with pytest.raises(
        ValueError, match="expected a session with forecasts, 2016-08-03 to 2016-08-05, found 2016-09-01"
    ):
        choose_session(predictions, features, "2016-09-01")


def test_the_fan_ends_where_the_four_hour_quantiles_are_and_starts_at_the_price() -> None:
    features, predictions = three_sessions()
    figure = figures.fan_chart(predictions, features, EvaluateConfig(fan_session="2016-08-04"))
    upper = figure.axes[0]
    first = features[features["session"] == "2016-08-04"].iloc[0]
    widest = next(c for c in upper.collections if isinstance(c, PolyCollection))
    x, y = widest.get_paths()[0].vertices.T
    assert y[np.isclose(x, x.min())] == pytest.approx(first["raw_close"])
    end = y[np.isclose(x, x.max())]
    expected = first["raw_close"] * np.exp(2e-4 * np.sqrt(48) * stats.norm.ppf([0.05, 0.95]))
    assert [end.min(), end.max()] == pytest.approx(expected)
    assert x.max() - x.min() == pytest.approx(4 / 24)


def test_an_unknown_fan_horizon_is_an_error() -> None:
    features, predictions = three_sessions()
    with pytest.raises(ValueError, match=r"found '45m'"):
        figures.fan_chart(predictions, features, EvaluateConfig(fan_horizon="45m"))


def test_figures_leave_no_pyplot_behind() -> None:
    script = (
        "import sys; from nqcast.evaluation import figures; figures.fan_chart; figures.skill_by_horizon;"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    features, predictions = three_sessions()
    assert isinstance(figures.fan_chart(predictions, features), Figure)

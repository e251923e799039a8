"""Figures: what is drawn is what the data say, and nothing is left open or printed to a screen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from scipy import stats

from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, predictions_frame
from nqcast.evaluation.significance import Estimate, stationary_bootstrap
from nqcast.report import figures
from nqcast.report.figures.fan import choose_session
from nqcast.report.figures.style import finish, new_figure

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
    assert y[x < x.min() + 1e-6] == pytest.approx(first["raw_close"])
    end = y[x > x.max() - 1e-6]
    expected = first["raw_close"] * np.exp(2e-4 * np.sqrt(48) * stats.norm.ppf([0.05, 0.95]))
    assert [end.min(), end.max()] == pytest.approx(expected)
    assert x.max() - x.min() == pytest.approx(4 / 24)


def test_an_unknown_fan_horizon_is_an_error() -> None:
    features, predictions = three_sessions()
    with pytest.raises(ValueError, match=r"found '45m'"):
        figures.fan_chart(predictions, features, EvaluateConfig(fan_horizon="45m"))


def anchors_of(width: float) -> Forecasts:
    """Sixty sessions of forecasts whose spread is ``width`` times the true one."""
    rng = np.random.default_rng(0)
    session = pd.Series(np.repeat(pd.date_range("2016-01-04", periods=60), 100))
    ts = pd.Series(pd.date_range("2016-01-04", periods=6000, freq="5min", tz="UTC"))
    scale = 1e-3 * np.exp(rng.normal(0, 0.5, (6000, 5)))
    targets = scale * rng.laplace(size=(6000, 5))
    targets[rng.random((6000, 5)) < 0.05] = np.nan
    return Forecasts(ts, session, targets, width * scale[..., None] * stats.laplace.ppf(LEVELS), scale)


@pytest.mark.parametrize(("width", "most_outside"), [(1.0, False), (1.3, True)])
def test_the_reliability_diagram_marks_a_wide_forecast_and_not_a_right_one(width: float, most_outside: bool) -> None:
    resamples = stationary_bootstrap(60, 5.0, 400, np.random.default_rng(1))
    figure = figures.reliability_diagram(anchors_of(width), resamples)
    filled = sum(
        len(line.get_xdata()) for axes in figure.axes for line in axes.lines if line.get_label() == "outside the band"
    )
    assert filled >= 25 if most_outside else filled <= 6  # of 35; the median of a wide forecast is right


def test_the_pit_histogram_of_a_right_forecast_is_flat_and_of_a_wide_one_humped() -> None:
    heights = {}
    for width in (1.0, 1.5):
        figure = figures.pit_histogram(anchors_of(width))
        heights[width] = np.array([[bar.get_height() for bar in axes.patches] for axes in figure.axes])
    assert np.abs(heights[1.0] - 1).max() < 0.2
    assert (heights[1.5][:, 3:5] > 1.15).all()
    assert (heights[1.5][:, [0, -1]] < 0.8).all()


def test_coverage_over_time_is_the_share_of_the_last_sessions() -> None:
    anchors = anchors_of(1.0)
    figure = figures.coverage_over_time(anchors, 80, 20)
    last = anchors.targets[4000:, 2]
    low, high = anchors.quantiles[4000:, 2, 1], anchors.quantiles[4000:, 2, 5]
    expected = ((last >= low) & (last <= high)).sum() / np.isfinite(last).sum()
    drawn = next(line for line in figure.axes[0].lines[4:] if len(line.get_xdata()) == 60).get_ydata()
    assert drawn[-1] == pytest.approx(expected)
    assert np.isnan(drawn[:19]).all()


def test_skill_by_horizon_draws_the_estimate_and_its_interval_in_per_cent() -> None:
    estimate = Estimate(np.linspace(0.1, 0.2, 6), np.linspace(0.08, 0.18, 6), np.linspace(0.13, 0.23, 6))
    figure = figures.skill_by_horizon({"model": estimate}, HORIZONS)
    point, _, bars = figure.axes[0].containers[0]
    assert point.get_ydata() == pytest.approx(100 * estimate.value)
    segments = np.array(bars[0].get_segments())
    assert segments[:, 0, 1] == pytest.approx(100 * estimate.low)
    assert segments[:, 1, 1] == pytest.approx(100 * estimate.high)


def test_pinball_by_time_of_day_starts_with_the_session_in_exchange_time() -> None:
    anchors = anchors_of(1.0)
    losses = metrics.anchor_loss(anchors.quantiles, anchors.targets, LEVELS)
    figure = figures.pinball_by_time_of_day({"model": losses[:, 0]}, anchors.ts, "15m")
    local = anchors.ts.dt.tz_convert("America/Chicago")
    opening = ((local.dt.hour == 17) & (local.dt.minute < 30)).to_numpy()
    loss = [metrics.mean_pinball(anchors.quantiles[opening], anchors.targets[opening], LEVELS)[0]]
    assert 1e-4 * figure.axes[0].lines[0].get_ydata()[:1] == pytest.approx(loss)


def test_training_curves_mark_the_epoch_of_least_validation_loss_and_bridge_missing_values() -> None:
    history = [{"epoch": 0, "val_loss": 0.31}]
    history += [
        {"epoch": e, "train_loss": 0.3, "val_loss": v, "learning_rate": 1e-4}
        for e, v in enumerate((0.30, 0.28, 0.29), 1)
    ]
    figure = figures.training_curves(history)
    star = next(line for line in figure.axes[0].lines if line.get_marker() == "*")
    assert (star.get_xdata()[0], star.get_ydata()[0]) == (2, 0.28)
    with pytest.raises(ValueError, match="found no epoch"):
        figures.training_curves([])


def test_a_right_scale_lies_on_the_diagonal() -> None:
    figure = figures.scale_against_realised(anchors_of(1.0))
    for line in figure.axes[0].lines[:5]:
        assert np.log(line.get_ydata() / line.get_xdata()) == pytest.approx(np.zeros(20), abs=0.25)


def test_figures_leave_no_pyplot_behind() -> None:
    script = (
        "import sys; from nqcast.report import figures; figures.fan_chart; figures.skill_by_horizon;"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    features, predictions = three_sessions()
    assert isinstance(figures.fan_chart(predictions, features), Figure)


def test_a_contract_whose_name_looks_like_a_formula_is_drawn_as_it_stands(tmp_path: Path) -> None:
    features, predictions = three_sessions()
    named = features.assign(contract=r"$\frac$ & <b>")
    figure = figures.fan_chart(predictions, named, EvaluateConfig(fan_session="2016-08-04"))
    figure.savefig(tmp_path / "fan.png")
    assert r"$\frac$" in figure.axes[0].get_title(loc="left")
    axes = finish(new_figure().subplots(), r"$\frac$", r"$\bad$", r"$\worse$")
    axes.figure.savefig(tmp_path / "labels.png")


def test_the_gain_over_the_sessions_begins_at_zero_and_ends_at_the_gain() -> None:
    reference = np.full((6, 2), 2.0)
    loss = reference - np.repeat([0.5, 0.0, 1.0], 2)[:, None]
    days = pd.Series(np.repeat(pd.date_range("2016-08-03", periods=3).to_numpy(), 2))
    figure = figures.gain_by_session(loss, reference, days)
    assert figure.axes[0].lines[0].get_ydata() == pytest.approx([0, 100 / 12, 100 / 12, 25])

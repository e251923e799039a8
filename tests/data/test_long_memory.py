"""Columns of long memory: each causal, each without a unit, and some against sums written out."""

import numpy as np
import pandas as pd
import pytest

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.long_memory import SESSION, long_memory
from nqcast.data.seasonal_har import SeasonalHAR
from nqcast.data.splits import anchor_mask


@pytest.fixture(scope="module")
def train(features) -> np.ndarray:
    anchors = np.flatnonzero(anchor_mask(features, SplitConfig(warmup_bars=300)))
    return anchors[anchors < 7000]


@pytest.fixture(scope="module")
def scale(features, train) -> SeasonalHAR:
    return SeasonalHAR().fit(features, train)


def columns_of(table: pd.DataFrame, scale: SeasonalHAR) -> dict[str, np.ndarray]:
    return long_memory(table, scale.profiles_PS, scale.transform(table))


@pytest.fixture(scope="module")
def columns(features, scale) -> dict[str, np.ndarray]:
    return columns_of(features, scale)


@pytest.mark.parametrize("rows", [3000, 5001, 8003])
def test_every_column_of_a_row_needs_no_row_after_it(features, scale, columns, rows):
    """The same numbers come from a table that ends there, and from one that goes on otherwise."""
    short = columns_of(features.iloc[:rows].reset_index(drop=True), scale)
    wild = features.copy()
    later = wild.index >= rows
    for name in ("log_return", "open_return", "realized_variance", "log_range", *wild.filter(like="target_").columns):
        wild.loc[later, name] = -3.0 * wild.loc[later, name]
    wild["realized_variance"] = wild["realized_variance"].abs()
    other = columns_of(wild, scale)
    ends_inside_session = features["session"].iloc[rows] == features["session"].iloc[rows - 1]
    assert ends_inside_session
    for name, column in columns.items():
        np.testing.assert_array_equal(other[name][:rows], column[:rows], err_msg=name)
        np.testing.assert_allclose(short[name], column[:rows], rtol=1e-12, atol=1e-12, err_msg=name)
    assert any((other[name][rows:] != column[rows:]).any() for name, column in columns.items()), "the check can fail"


def test_columns_are_finite_and_know_no_price_level(bars, scale, columns):
    dearer = bars.assign(**{name: 8 * bars[name] for name in ("open", "high", "low", "close", "raw_close")})
    for name, column in columns_of(build_features(dearer), scale).items():
        assert np.isfinite(column).all(), name
        np.testing.assert_allclose(column, columns[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_signed_returns_and_their_downside_are_sums_over_the_bars_before(features, scale, columns):
    active = ~features["halt"].to_numpy()
    z = (features["log_return"] / np.sqrt(scale.profiles_PS[2][features["bar_in_day"]]))[active].to_numpy()
    row = 6000
    last = z[: active[: row + 1].sum()][-SESSION:]
    squares = np.sum(last**2) + 0.03 * SESSION
    assert columns[f"signed_{SESSION}"][row] == pytest.approx(last.sum() / np.sqrt(squares))
    below = np.sum(last[last < 0] ** 2) + 0.015 * SESSION
    assert columns[f"downside_{SESSION}"][row] == pytest.approx(below / squares - 0.5)


def test_the_place_is_minus_a_half_at_the_low_and_a_half_at_the_high(features, columns):
    path = np.cumsum(features["log_return"] + features["open_return"].where(features["session_first"], 0.0))
    window = path.rolling(5 * SESSION, min_periods=1)
    at_high, at_low = (np.array(path == extreme) for extreme in (window.max(), window.min()))
    at_low[0] = at_high[0] = False
    np.testing.assert_allclose(columns["place_5"][at_high], 0.5)
    np.testing.assert_allclose(columns["place_5"][at_low], -0.5)
    np.testing.assert_allclose(columns["drawdown_5"][at_high], 0.0)


def test_a_time_of_day_that_brings_twice_the_scale_is_known_the_session_after(features, scale):
    busy = features.copy()
    hour = busy["bar_in_day"].between(120, 131)
    busy.loc[hour, "realized_variance"] *= 16
    column = long_memory(busy, scale.profiles_PS, scale.transform(features))["time_of_day_20"]
    quiet = long_memory(features, scale.profiles_PS, scale.transform(features))["time_of_day_20"]
    gain = (column - quiet)[features["bar_in_day"].to_numpy() == 122]
    assert gain[0] == 0.0, "the first session has none before it"
    assert (np.diff(gain[:10]) > 0).all() and gain[-1] == pytest.approx(np.log(4), rel=0.15)


def test_the_network_is_told_by_the_scale_in_training_deviations(features, train):
    plain, told = (SeasonalHAR(ScaleConfig(long_memory=on)).fit(features, train) for on in (False, True))
    np.testing.assert_array_equal(plain.transform(features), told.transform(features))
    state = told.describe(features).state_NK
    assert told.n_state == state.shape[1] > plain.n_state + 60
    np.testing.assert_array_equal(state[:, : plain.n_state], plain.describe(features).state_NK)
    inside = np.abs(state[train]).max(axis=0) < 5
    np.testing.assert_allclose(state[train][:, inside].mean(axis=0), 0.0, atol=1e-6)


def test_a_shorter_reach_leaves_the_longest_columns_out_and_the_others_as_they_are(features, scale, columns, train):
    far = {"signed_33120", "downside_33120", "variance_120", "place_120", "drawdown_120", "width_120"}
    near = long_memory(features, scale.profiles_PS, scale.transform(features), 60)
    assert list(near) == [name for name in columns if name not in far] and far <= columns.keys()
    for name, column in near.items():
        np.testing.assert_array_equal(column, columns[name], err_msg=name)
    whole, less = (ScaleConfig(long_memory=True, memory_reach=sessions) for sessions in (120, 60))
    fitted = [SeasonalHAR(config).fit(features, train).n_state for config in (whole, less)]
    assert fitted[0] == fitted[1] + len(far)


def test_by_itself_the_scale_takes_long_memory_from_two_years_on(features, train):
    few = SeasonalHAR(ScaleConfig(long_memory="auto")).fit(features, train)
    assert few.config.long_memory is False

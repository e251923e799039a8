"""The 24 features against their definitions written out; none looks ahead or knows the level of prices."""

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import CLOCK, FEATURES
from nqcast.data.config import FeaturesConfig
from nqcast.data.features import build_features, check_features, garman_klass

_LATE = 40  # rows from which the literal formulas hold (all windows but the 72-bar one are full)


def literal_row(bars: pd.DataFrame, t: int) -> dict[str, float]:
    """The features of row t that need only a few rows, written out from their definitions."""
    row, before = bars.iloc[t], bars.iloc[t - 1]
    base = row.open if row.session != before.session else before.close
    floor = (0.125 / row.raw_close) ** 2
    r = np.log(row.close / base)
    gk = 0.5 * np.log(row.high / row.low) ** 2 - (2 * np.log(2) - 1) * np.log(row.close / row.open) ** 2
    window = {n: bars.iloc[max(t - n + 1, 0) : t + 1] for n in (12, 36, 72, 20)}
    rv = {f"rv_{n}": np.log(max(window[n].realized_variance.mean(), floor)) for n in (12, 36, 72)}
    roc = {f"roc_{n}": np.log(row.close / bars.close[t - n]) for n in (5, 10, 20)}
    return {
        "open_return": np.log(row.open / before.close),
        "high_return": np.log(row.high / row.open),
        "low_return": np.log(row.low / row.open),
        "log_return": r,
        "log_volume": np.log(1 + row.volume),
        "gk_volatility": np.log(np.sqrt(max(gk, floor))),
        "amihud": np.log(max(abs(r), np.sqrt(floor)) / (1 + row.volume)),
        "volume_ma_ratio": np.log((1 + row.volume) / (1 + window[20].volume.mean())),
        **rv,
        **roc,
    }


def test_every_short_feature_equals_its_definition_written_out(bars, features):
    firsts = np.flatnonzero(features["session_first"])[1:4]
    for t in [*range(_LATE, _LATE + 60), *firsts, *(firsts + 1), *np.flatnonzero(bars["halt"])[3:9]]:
        for name, expected in literal_row(bars, int(t)).items():
            assert features[name][t] == pytest.approx(expected, rel=1e-9, abs=1e-13), (name, t)


def test_averages_equal_the_exponential_means_of_pandas(bars, features):
    close = bars["close"]
    ema = {n: close.ewm(span=n, adjust=False).mean() for n in (9, 12, 21, 26, 50)}
    line = ema[12] - ema[26]
    base = close.shift().where(~features["session_first"], bars["open"])
    true_range = np.maximum(bars["high"], base) - np.minimum(bars["low"], base)
    expected = {
        "macd": line / close,
        "macd_signal": line.ewm(span=9, adjust=False).mean() / close,
        "atr_14": (true_range / close).ewm(alpha=1 / 14, adjust=False).mean(),
    }
    for n in (9, 21, 50):
        expected[f"ema_dev_{n}"] = (close - ema[n]) / close
        expected[f"ema_slope_{n}"] = (ema[n] - ema[n].shift(n // 3)) / close
    gain, loss = (
        (sign * features["log_return"]).clip(lower=0).ewm(alpha=1 / 14, adjust=False).mean() for sign in (1, -1)
    )
    strength = 100 - 100 / (1 + gain / loss)
    expected["rsi_14"] = (strength - 50) / 50
    for name, series in expected.items():
        np.testing.assert_allclose(features[name][_LATE:], series[_LATE:], rtol=1e-8, atol=1e-11, err_msg=name)


def test_garman_klass_is_unbiased_for_a_random_walk_without_drift():
    steps = np.random.default_rng(1).normal(size=(4000, 800)) * 0.01 / np.sqrt(800)
    path = np.exp(np.cumsum(np.concatenate([np.zeros((4000, 1)), steps], axis=1), axis=1))
    estimate = garman_klass(path[:, 0], path.max(axis=1), path.min(axis=1), path[:, -1]).mean()
    assert estimate == pytest.approx(1e-4, rel=0.08)  # a discrete path misses a little of its range


def test_bars_after_a_row_never_change_its_features(bars, make_bars):
    cut = 3000
    other = make_bars(pd.DatetimeIndex(bars["session"].unique()), seed=7)
    shuffled = pd.concat([bars.iloc[: cut + 1], other.iloc[cut + 1 :]], ignore_index=True)
    shuffled.loc[cut + 5, "unadjusted"] = True
    mine, theirs = build_features(bars), build_features(shuffled)
    columns = [*FEATURES, *CLOCK, "log_range", "realized_variance"]
    pd.testing.assert_frame_equal(mine.loc[:cut, columns], theirs.loc[:cut, columns], check_exact=True)
    assert not mine.loc[cut + 1 :, list(FEATURES)].equals(theirs.loc[cut + 1 :, list(FEATURES)])


def test_price_levels_do_not_enter(bars, features):
    prices = ["open", "high", "low", "close"]
    moved = build_features(bars.assign(**{name: bars[name] * 7.3 for name in prices}))
    np.testing.assert_allclose(moved[list(FEATURES)], features[list(FEATURES)], rtol=1e-9, atol=1e-11)


def test_an_unadjusted_roll_leaves_its_jump_out_of_every_feature(bars, features):
    jump = 2000
    row = np.arange(len(bars))
    prices = ["open", "high", "low", "close"]
    rolled = bars.assign(**{name: np.where(row >= jump, bars[name] * 1.02, bars[name]) for name in prices})
    flagged = rolled.assign(unadjusted=row == jump)
    left_out = build_features(flagged)[list(FEATURES)].to_numpy()
    assert np.abs(left_out[:, :4]).max() < 0.015
    momentum = [FEATURES.index(name) for name in ("roc_20", "macd", "ema_dev_50")]
    calm = np.abs(left_out - features[list(FEATURES)].to_numpy()).max(axis=0)[momentum]
    assert (calm < 0.002).all()
    jumped = build_features(rolled)[list(FEATURES)].to_numpy()
    assert np.abs(jumped[jump, :4]).max() > 0.015


def test_untraded_and_halt_rows_are_finite_with_zero_returns(bars, features):
    quiet = ~bars["traded"] & ~features["session_first"]
    assert quiet.sum() > 100
    assert (features.loc[quiet, ["open_return", "high_return", "low_return", "log_return", "log_volume"]] == 0).all(
        axis=None
    )
    floor = np.log(0.125 / bars.loc[quiet, "raw_close"])
    np.testing.assert_allclose(features.loc[quiet, "gk_volatility"], floor)
    assert np.isfinite(features[list(FEATURES)]).all(axis=None)


def test_flat_bars_from_the_first_row_on_give_finite_features(bars):
    price = 4500.0
    flat = bars.assign(open=price, high=price, low=price, close=price, volume=0, realized_variance=0.0)
    table = build_features(flat)[list(FEATURES)]
    assert np.isfinite(table).all(axis=None)
    assert (table[["rsi_14", "macd", "roc_20", "ema_dev_50"]].abs() < 1e-12).all(axis=None)


def test_without_volume_its_features_are_zero_and_the_others_stay(bars, features):
    table = build_features(bars.drop(columns="volume"), FeaturesConfig(volume=False))
    silent = ["log_volume", "amihud", "volume_ma_ratio"]
    assert (table[silent] == 0).all(axis=None)
    others = [name for name in FEATURES if name not in silent]
    pd.testing.assert_frame_equal(table[others], features[others])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda bars: bars.drop(columns="volume"), r"features\.volume=false"),
        (lambda bars: bars.drop(columns="halt"), "found no \\['halt'\\]"),
        (lambda bars: bars.assign(ts=bars["ts"].dt.tz_localize(None)), "zone UTC"),
        (lambda bars: bars.iloc[::-1], "rising stamps"),
        (lambda bars: bars.iloc[:0], "at least one row"),
        (lambda bars: bars.assign(low=bars["low"].where(bars.index != 9, 0.0)), "positive prices"),
        (lambda bars: bars.assign(realized_variance=np.nan), "finite"),
    ],
)
def test_bad_bars_are_named_with_a_cure(bars, spoil, message):
    with pytest.raises(ValueError, match=message):
        build_features(spoil(bars))


def test_a_feature_table_without_a_column_is_refused(features):
    with pytest.raises(ValueError, match="rsi_14"):
        check_features(features.drop(columns="rsi_14"))
    assert check_features(features) is features


@pytest.mark.parametrize("column", ["macd", "raw_close", "realized_variance", "log_range"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_feature_table_with_a_number_that_is_none_is_refused(features, column, value):
    """Scale and prices are made of columns that the network does not see."""
    with pytest.raises(ValueError, match=rf"finite on every row, found others in \['{column}'\]"):
        check_features(features.assign(**{column: features[column].where(features.index != 9, value)}))


def test_by_itself_a_file_without_volume_is_taken_without(bars):
    silent = bars.assign(volume=0)
    auto, without = (build_features(silent, FeaturesConfig(volume=volume)) for volume in ("auto", False))
    pd.testing.assert_frame_equal(auto, without)
    assert (auto["log_volume"] == 0).all()
    assert (build_features(bars, FeaturesConfig(volume="auto"))["log_volume"] > 0).any()
    assert FeaturesConfig(volume="auto").has_volume(bars.drop(columns="volume")) is False

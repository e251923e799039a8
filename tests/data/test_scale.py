"""The scales: a known law is recovered, train alone is read, no later bar changes one, and a saved one is the same."""

import json

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS, TARGETS
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import ConstantScale, SeasonalHAR, make_scale, scale_from_state
from nqcast.data.splits import SplitConfig, anchor_mask

_PREDICTORS = ("realized", "returns", "ewma12", "none")


@pytest.fixture(scope="module")
def train(features) -> np.ndarray:
    anchors = np.flatnonzero(anchor_mask(features, SplitConfig(warmup_bars=300)))
    return anchors[anchors < 7000]


@pytest.fixture(scope="module")
def fitted(features, train) -> SeasonalHAR:
    return SeasonalHAR().fit(features, train)


def test_a_known_law_is_recovered(make_bars):
    """Returns drawn as s · Laplace, with s of known coefficients, give these coefficients and Laplace's quantiles."""
    table = build_features(make_bars(pd.bdate_range("2015-01-05", "2015-12-18"), seed=5))
    anchors = np.flatnonzero(anchor_mask(table, SplitConfig(warmup_bars=300)))
    law = SeasonalHAR(ScaleConfig(predictors="returns", ridge=0.0)).fit(table, anchors)
    rng = np.random.default_rng(0)
    law.beta_KH = law.beta_KH * 0.0
    law.beta_KH[0], law.beta_KH[1], law.beta_KH[2] = 0.3, -0.2, 0.5
    scale = law.transform(table)
    drawn = rng.laplace(size=scale.shape) * scale
    known = table.assign(**{name: np.where(table[name].isna(), np.nan, drawn[:, h]) for h, name in enumerate(TARGETS)})
    refit = SeasonalHAR(ScaleConfig(predictors="returns", ridge=0.0)).fit(known, anchors)
    ratio = refit.transform(table)[anchors] / scale[anchors]
    assert np.abs(np.log(ratio)).max() < 0.15
    assert np.abs(np.log(ratio)).mean() < 0.02
    np.testing.assert_allclose(refit.beta_KH[:3], law.beta_KH[:3], atol=0.1)
    levels = np.array(LEVELS)
    laplace = np.sign(levels - 0.5) * -np.log(1 - 2 * np.abs(levels - 0.5))
    np.testing.assert_allclose(refit.unit_quantiles_HQ, np.tile(laplace, (5, 1)), atol=0.06)


def test_unit_quantiles_are_the_empirical_quantiles_of_the_scaled_returns(features, train, fitted):
    unit = features[list(TARGETS)].to_numpy()[train] / fitted.transform(features)[train]
    for h in range(len(HORIZONS)):
        defined = unit[:, h][np.isfinite(unit[:, h])]
        np.testing.assert_allclose(fitted.unit_quantiles_HQ[h], np.quantile(defined, LEVELS), rtol=1e-12)


@pytest.mark.parametrize("predictors", _PREDICTORS)
def test_the_scale_is_finite_and_above_zero_on_every_row(features, train, predictors):
    scale = SeasonalHAR(ScaleConfig(predictors=predictors)).fit(features, train).transform(features)
    assert scale.shape == (len(features), len(HORIZONS))
    assert np.isfinite(scale).all() and (scale > 0).all()


def test_time_of_day_alone_gives_one_scale_per_slot(features, train):
    scale = SeasonalHAR(ScaleConfig(predictors="none")).fit(features, train).transform(features)
    for h in range(len(HORIZONS)):
        assert (pd.Series(scale[:, h]).groupby(features["bar_in_day"]).nunique() == 1).all()


def test_a_scale_is_fitted_on_train_alone(features, train, fitted):
    after = np.arange(len(features)) > train.max()
    rng = np.random.default_rng(2)
    noise = np.where(after, rng.uniform(1, 3, len(features)), 1.0)
    names = ["realized_variance", "log_range", "log_return"]
    changed = features.assign(**{name: features[name] * noise for name in names})
    for name in TARGETS:
        changed[name] = np.where(after, 0.5, changed[name])
    again = SeasonalHAR().fit(changed, train)
    for mine, theirs in zip(fitted.state()[0].values(), again.state()[0].values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_bars_after_a_row_never_change_its_scale(bars, make_bars, fitted, features):
    cut = 5000
    other = make_bars(pd.DatetimeIndex(bars["session"].unique()), seed=9)
    table = build_features(pd.concat([bars.iloc[: cut + 1], other.iloc[cut + 1 :]], ignore_index=True))
    mine, theirs = fitted.transform(features), fitted.transform(table)
    np.testing.assert_array_equal(mine[: cut + 1], theirs[: cut + 1])
    assert (mine[cut + 1 :] != theirs[cut + 1 :]).any()
    short = fitted.transform(features.iloc[: cut + 1])
    np.testing.assert_array_equal(mine[: cut + 1], short)


def test_wild_bars_after_training_leave_the_scale_bounded(features, train):
    scale = SeasonalHAR().fit(features, train)
    scale.beta_KH[1:4] = 0.3  # strong answers, whatever these random bars taught
    wild = features.assign(realized_variance=features["realized_variance"] * 1e12)
    calm, excited = scale.transform(features), scale.transform(wild)
    assert np.isfinite(excited).all()
    assert (excited.max(axis=0) < 20 * calm.max(axis=0)).all()


@pytest.mark.parametrize("predictors", _PREDICTORS)
def test_the_mean_of_the_scaled_moves_is_one_in_training(features, train, predictors):
    """The intercept is free, so its first-order condition holds exactly: mean |y|/s = 1."""
    scale = SeasonalHAR(ScaleConfig(predictors=predictors)).fit(features, train)
    unit = features[list(TARGETS)].to_numpy()[train] / scale.transform(features)[train]
    np.testing.assert_allclose(np.nanmean(np.abs(unit), axis=0), 1, atol=2e-3)


def test_a_session_without_a_halt_is_scaled_for_the_minutes_that_it_trades(features, train, fitted):
    """At 15:10 a quarter of an hour is all halt or all trading; at noon, 15 minutes know no difference."""
    halting, open_all_day = (fitted.transform(features.assign(halts=halts)) for halts in (True, False))
    ratio_NH = open_all_day / halting
    at = features["bar_in_day"].to_numpy()
    assert (ratio_NH[at == 182, 1] > 1.2).all()
    assert (ratio_NH[at == 144, 0] == 1).all()
    assert (ratio_NH[at == 144, 4] > 1.0).all()


def test_the_profile_is_learned_between_the_first_and_the_last_train_anchor(features, train):
    before = np.arange(len(features)) < train.min()
    changed = features.assign(log_return=np.where(before, 0.05, features["log_return"]))
    mine, theirs = (SeasonalHAR(ScaleConfig(predictors="none")).fit(table, train) for table in (features, changed))
    np.testing.assert_array_equal(mine.profiles_PS, theirs.profiles_PS)


def test_a_constant_scale_returns_the_quantiles_of_the_train_returns(features, train):
    scale = make_scale(ScaleConfig(kind="constant")).fit(features, train)
    assert isinstance(scale, ConstantScale)
    scale_NH = scale.transform(features)
    np.testing.assert_allclose(scale_NH[0], [features[name].iloc[train].abs().mean() for name in TARGETS])
    assert (scale_NH == scale_NH[0]).all()
    expected = np.stack([np.quantile(features[name].iloc[train].dropna(), LEVELS) for name in TARGETS])
    np.testing.assert_allclose(scale.unit_quantiles_HQ * scale_NH[0][:, None], expected, rtol=1e-12)


@pytest.mark.parametrize("config", [ScaleConfig(), ScaleConfig(kind="constant"), ScaleConfig(predictors="ewma12")])
def test_a_scale_comes_back_from_its_state_through_json(features, train, config):
    scale = make_scale(config).fit(features, train)
    arrays, scalars = scale.state()
    back = scale_from_state(arrays, json.loads(json.dumps(scalars)))
    assert back.config == config and back.levels == LEVELS
    np.testing.assert_array_equal(back.transform(features), scale.transform(features))
    np.testing.assert_array_equal(back.unit_quantiles_HQ, scale.unit_quantiles_HQ)


def test_a_state_without_its_arrays_is_refused(fitted):
    arrays, scalars = fitted.state()
    del arrays["beta_KH"]
    with pytest.raises(ValueError, match="beta_KH"):
        scale_from_state(arrays, scalars)


@pytest.mark.parametrize("weight", [1.0, 0.25])
def test_rolling_quantiles_take_the_sessions_before_and_nothing_of_today(features, train, weight):
    scale = SeasonalHAR(ScaleConfig(rolling_sessions=5, rolling_weight=weight)).fit(features, train)
    scale_NH = scale.transform(features)
    position = 4000
    session = features["session"]
    days = np.sort(session.unique())
    today = np.searchsorted(days, session[position].to_datetime64())
    before = session.isin(days[today - 5 : today]) & features["traded"] & ~features["halt"]
    table = scale.rolling_quantiles(features, scale_NH, np.array([3, position]))
    unit = (features[list(TARGETS)] / scale_NH)[before]
    expected = np.stack([np.quantile(unit[name].dropna(), LEVELS) for name in TARGETS])
    np.testing.assert_allclose(table[1], weight * expected + (1 - weight) * scale.unit_quantiles_HQ, rtol=1e-12)
    np.testing.assert_array_equal(table[0], scale.unit_quantiles_HQ)  # too few sessions before


def test_the_volatility_state_is_what_the_scale_is_made_of_in_deviations_of_the_train_anchors(features, train, fitted):
    scale_NH, state_NK = fitted.describe(features)
    np.testing.assert_array_equal(scale_NH, fitted.transform(features))
    raw_NK = np.concatenate([np.log(scale_NH), fitted._predictors(features)[:, 1:]], axis=1)
    z_NK = (raw_NK - raw_NK[train].mean(axis=0)) / raw_NK[train].std(axis=0)
    np.testing.assert_allclose(state_NK, np.clip(z_NK, -5.0, 5.0), atol=1e-9)
    cut = 5000
    np.testing.assert_array_equal(fitted.describe(features.iloc[: cut + 1]).state_NK, state_NK[: cut + 1])


def test_a_constant_scale_knows_nothing_of_volatility(features, train):
    assert make_scale(ScaleConfig(kind="constant")).fit(features, train).describe(features).state_NK.shape[1] == 0


def test_too_few_anchors_and_an_unfitted_scale_are_refused(features, train):
    with pytest.raises(ValueError, match="100 train anchors"):
        SeasonalHAR().fit(features, train[:50])
    with pytest.raises(ValueError, match="expected a fitted"):
        SeasonalHAR().transform(features)

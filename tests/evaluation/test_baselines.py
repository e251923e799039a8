"""Baselines: what each must know and must not know."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import baseline_quantiles, make_baseline, make_baselines
from nqcast.evaluation.baselines.base import Baseline
from nqcast.evaluation.config import BASELINES, FAIR_BASELINES, QUICK_BASELINES, EvaluateConfig
from nqcast.evaluation.frames import targets_at
from nqcast.evaluation.scores import score_table, wide

Market = Callable[..., pd.DataFrame]
LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")


def random_targets(n: int = 500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"target_{h}": rng.standard_t(4, n) * 1e-3 for h in HORIZONS})
    return frame.mask(rng.random(frame.shape) < 0.1)


def test_constants_are_the_empirical_quantiles_of_the_train_anchors_alone() -> None:
    features, train = random_targets(), np.arange(0, 300, 2)
    baseline = make_baseline("constants", LEVELS, HORIZONS).fit(features, train)
    changed = features.copy()
    changed.iloc[300:] = 1.0
    quantiles = baseline.predict(changed, np.arange(400, 410))
    for h, name in enumerate(HORIZONS):
        expected = features[f"target_{name}"].to_numpy()[train]
        assert quantiles[7, h] == pytest.approx(np.quantile(expected[np.isfinite(expected)], LEVELS))


def test_no_other_constant_does_better_on_the_train_anchors() -> None:
    features, train = random_targets(20_000), np.arange(20_000)
    targets = features.to_numpy()
    quantiles = make_baseline("constants", LEVELS, HORIZONS).fit(features, train).predict(features, train)
    best = metrics.pinball_by_level(quantiles, targets, LEVELS)
    for shift in (-2e-4, -1e-4, 1e-4, 2e-4):
        assert (metrics.pinball_by_level(quantiles + shift, targets, LEVELS) > best - 1e-9).all()


def test_a_horizon_without_targets_and_an_unknown_baseline_are_errors() -> None:
    features = random_targets().assign(target_4h=np.nan)
    with pytest.raises(ValueError, match="expected at least 2 defined targets at horizon 4"):
        make_baseline("constants", LEVELS, HORIZONS).fit(features, np.arange(100))
    for name in ("prophet", "../constants", "os.path"):
        with pytest.raises(ValueError, match=r"known are constants, time_of_day"):
            make_baseline(name, LEVELS, HORIZONS)


def test_every_baseline_of_the_dict_can_be_asked_for_by_its_name() -> None:
    profiles = (EvaluateConfig(baselines=name).baseline_names for name in ("quick", "full", "fair", "real"))
    assert {name for profile in profiles for name in profile} == set(BASELINES) - {"fracast"}  # by its name alone
    for name in BASELINES:
        assert isinstance(make_baseline(name, LEVELS, HORIZONS), Baseline)


def test_profiles_name_the_baselines_and_a_list_needs_constants() -> None:
    assert EvaluateConfig().baseline_names == (
        "constants",
        "time_of_day",
        "time_of_day_ewma",
        "log_har",
        "seasonal_har",
    )
    assert set(EvaluateConfig(baselines="full").baseline_names) > set(EvaluateConfig().baseline_names)
    assert EvaluateConfig(baselines=["constants", "log_har"]).baseline_names == ("constants", "log_har")
    for wrong in (["log_har"], ["constants", "prophet"], "most"):
        with pytest.raises(ValueError, match=r"baselines"):
            EvaluateConfig(baselines=wrong)


def test_each_baseline_knows_more_than_the_one_before(market: Market) -> None:
    features = market()
    train, test = np.arange(2760, 276 * 45), np.arange(276 * 46, len(features))
    targets = features[[f"target_{h}" for h in HORIZONS]].to_numpy()[test]
    names = ("constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har")
    losses = {
        name: metrics.mean_pinball(baseline.fit(features, train).predict(features, test), targets, LEVELS)
        for name, baseline in make_baselines(names, LEVELS, HORIZONS).items()
    }
    assert (losses["time_of_day"][:3] < 0.99 * losses["constants"][:3]).all()
    assert (losses["time_of_day_ewma"][:3] < 0.99 * losses["time_of_day"][:3]).all()
    assert (losses["log_har"][:2] < losses["time_of_day_ewma"][:2]).all()
    assert losses["seasonal_har"][0] < losses["log_har"][0]  # it alone sees inside the bar


@pytest.mark.parametrize(
    "name", ["constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har", "garch_fhs"]
)
def test_a_baseline_sees_nothing_after_the_anchor_and_fits_on_nothing_after_the_train_labels(
    name: str, market: Market
) -> None:
    if name == "garch_fhs":
        pytest.importorskip("arch", reason="arch is in the extra 'baselines'")
    features = market(40)
    train, anchors = np.arange(2760, 276 * 30), np.arange(276 * 31, 276 * 31 + 50)
    changed = features.copy()
    later = changed.index > anchors[-1]
    for column in ("log_return", "realized_variance", "log_range", *(f"target_{h}" for h in HORIZONS)):
        changed.loc[later, column] = 3 * changed.loc[later, column].to_numpy()[::-1]
    before, after = (
        make_baseline(name, LEVELS, HORIZONS).fit(frame, train).predict(frame, anchors) for frame in (features, changed)
    )
    assert (before == after).all()
    assert metrics.crossing_rate(before) == 0


def test_garch_is_calibrated_on_a_garch_market_and_follows_its_volatility(market: Market) -> None:
    pytest.importorskip("arch", reason="arch is in the extra 'baselines'")
    features = market(240, seed=1)
    rng, variance = np.random.default_rng(2), 1.0
    shocks = rng.standard_t(6, len(features)) / np.sqrt(1.5)
    for t in range(len(features)):
        shock = np.sqrt(variance) * shocks[t]
        shocks[t], variance = shock, 0.03 + (0.06 + 0.06 * (shock < 0)) * shock**2 + 0.88 * variance
    features["log_return"] = 4e-4 * shocks
    price = features["log_return"].groupby(features["session"]).cumsum()
    for name, bars in zip(HORIZONS, (3, 6, 12, 24, 48), strict=True):
        features[f"target_{name}"] = price.groupby(features["session"]).shift(-bars) - price
    train, test = np.arange(1000, 276 * 80), np.arange(276 * 81, len(features))
    baseline = make_baseline("garch_fhs", LEVELS, HORIZONS).fit(features, train)
    quantiles, targets = baseline.predict(features, test), features[[f"target_{h}" for h in HORIZONS]].to_numpy()[test]
    assert baseline.parameters == pytest.approx((0.03, 0.06, 0.06, 0.88), abs=0.035)
    assert metrics.coverage_by_level(quantiles, targets, LEVELS)[:3] == pytest.approx(np.tile(LEVELS, (3, 1)), abs=0.03)
    constants = make_baseline("constants", LEVELS, HORIZONS).fit(features, train).predict(features, test)
    gain = metrics.skill(*(metrics.mean_pinball(q, targets, LEVELS) for q in (quantiles, constants)))
    assert gain[0] > 0.01


def test_lightgbm_learns_what_only_a_feature_says(market: Market) -> None:
    pytest.importorskip("lightgbm", reason="lightgbm is in the extra 'baselines'")
    features = market(60)
    features["rsi_14"] = np.sign(np.sin(np.arange(len(features)) / 300))
    louder = np.exp(0.4 * features["rsi_14"])
    for h in HORIZONS:
        features[f"target_{h}"] *= louder
    train, test = np.arange(2760, 276 * 45), np.arange(276 * 46, len(features))
    targets = features[[f"target_{h}" for h in HORIZONS[:1]]].to_numpy()[test]
    fast = make_baseline("lightgbm", LEVELS, HORIZONS)
    fast.rounds, fast.parameters = 10, {**fast.parameters, "num_threads": 1, "learning_rate": 0.3}
    loss = {
        name: metrics.mean_pinball(b.fit(features, train).predict(features, test)[:, :1], targets, LEVELS)[0]
        for name, b in {"lightgbm": fast, "seasonal_har": make_baseline("seasonal_har", LEVELS, HORIZONS)}.items()
    }
    assert loss["lightgbm"] < 0.99 * loss["seasonal_har"]


def test_a_missing_library_says_how_to_get_it_and_the_table_of_real_bars_goes_without(
    market: Market, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "lightgbm", None)
    features, train = market(30), np.arange(276, 276 * 25)
    asked = features, train, features["ts"].iloc[276 * 26 : 276 * 26 + 5], LEVELS
    for needed in (("constants", "boosted_scale"), "fair"):  # a verdict's, which is asked once, is never without
        with pytest.raises(ImportError, match=r"pip install 'nqcast\[baselines\]'"):
            baseline_quantiles(*asked, EvaluateConfig(baselines=needed))
    found = baseline_quantiles(*asked, EvaluateConfig(baselines="real"))
    assert {*found, "boosted_scale"} == {*QUICK_BASELINES, *FAIR_BASELINES}
    (line,) = [one.getMessage() for one in caplog.records if "boosted_scale" in one.getMessage()]
    assert line.startswith("the table has no row boosted_scale: ") and "pip install" in line


@pytest.mark.slow
def test_on_real_bars_the_baselines_reach_their_known_skill(real_data: Path) -> None:
    from nqcast.data.config import FeaturesConfig, SplitConfig
    from nqcast.data.features import build_features
    from nqcast.data.splits import make_splits, positions
    from nqcast.market.config import IngestConfig
    from nqcast.market.ingest import build_bars
    from nqcast.market.vendor import read_bars

    raw = read_bars(real_data / "nq_1m_2015-06_2016-12.parquet")
    features = build_features(build_bars(raw, IngestConfig()).bars, FeaturesConfig())
    days = {"train_start": "2015-07-13", "validation_start": "2016-05-17", "test_start": "2016-08-03"}
    splits = make_splits(features, SplitConfig(**days))
    train, test = positions(splits, "train"), positions(splits, "test")
    forecasts = {
        name: baseline.fit(features, train).predict(features, test)
        for name, baseline in make_baselines(EvaluateConfig().baseline_names, LEVELS, HORIZONS).items()
    }
    table = score_table(forecasts, targets_at(features, test, HORIZONS), LEVELS, HORIZONS)
    skill = 100 * wide(table, "skill_constants")
    loss = 1e4 * wide(table, "mean_pinball")[list(HORIZONS)]
    assert (skill.loc["seasonal_har"] >= [19.0, 18.4, 17.4, 16.6, 15.5, 17.5]).all()
    assert (loss.loc["seasonal_har"] <= [1.48, 2.12, 3.11, 4.72, 7.17]).all()
    assert (skill.loc["seasonal_har", ["15m", "30m"]] - skill.loc["log_har", ["15m", "30m"]] >= 0.3).all()
    assert skill.loc["time_of_day"].to_numpy()[:5] == pytest.approx([5.4, 4.9, 4.9, 4.9, 4.6], abs=0.4)
    assert skill.loc["time_of_day_ewma"].to_numpy()[:5] == pytest.approx([18.7, 18.1, 17.1, 16.4, 15.3], abs=0.5)

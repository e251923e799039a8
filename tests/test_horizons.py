"""Horizons by parameter, by the clock, to the close and over the break: from the targets to a forecast."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.forecast.conftest import random_checkpoint
from tests.kedro_command import kedro, newest, output_of

from nqcast.constants import HORIZONS, LEVELS
from nqcast.data.config import FeaturesConfig, ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import SeasonalHAR, scale_from_state
from nqcast.data.splits import label_end, positions
from nqcast.data.targets import realized_volatility
from nqcast.experiments.leak_proof import (
    World,
    prove_the_future_is_unused,
    prove_the_labels_are_in_order,
)
from nqcast.experiments.leak_proof import (
    random_checkpoint as random_weights,
)
from nqcast.forecast.forecaster import Forecaster
from nqcast.horizons import check_horizons, in_order, root_weights
from nqcast.market.config import IngestConfig
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.simulation.true_quantiles import TrueQuantiles
from nqcast.parameters import ParameterError, check_parameters

NAMES = ("5m", "45m", "close", "1d", "5d")
CHICAGO = "America/Chicago"
MARKET = SimulationConfig(sessions=60, seed=7)  # holidays, half-days, weekends and the change to summer time inside


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return simulate(MARKET)


@pytest.fixture(scope="module")
def world(raw: pd.DataFrame) -> World:
    return World.make(raw, IngestConfig(), FeaturesConfig(), SplitConfig(warmup_bars=600), NAMES)


@pytest.fixture(scope="module")
def scale(world: World) -> SeasonalHAR:
    return SeasonalHAR(ScaleConfig()).fit(world.features, positions(world.splits, "train"))


def test_root_weights_fall_with_the_root_of_the_length_and_are_one_in_the_mean() -> None:
    weights = root_weights(("15m", "60m", "4h", "close", "1d", "4d"))
    assert np.mean(weights) == pytest.approx(1.0)
    assert [(weights[0] / weight) ** 2 for weight in weights] == pytest.approx([1, 4, 16, 92, 92, 4 * 92])


def test_names_are_sorted_by_length_and_the_default_is_the_published_contract() -> None:
    assert check_parameters({}).horizons == tuple(HORIZONS) == in_order(HORIZONS)
    assert check_parameters({"horizons": "5d+close+1d+4h+5m+90m"}).horizons == ("5m", "90m", "4h", "close", "1d", "5d")


@pytest.mark.parametrize(
    ("names", "said"),
    [("7m", "multiple of 5 minutes"), ("23h", "below a session"), ("60m+1h", "'1h'"), ("soon", "such as 45m"),
     ("11d", "at most 10 sessions"), ("0m", "such as 45m"), ("close+close", "'close'")],
)  # fmt: skip
def test_a_name_that_is_none_is_refused_with_what_would_be_one(names: str, said: str) -> None:
    with pytest.raises(ParameterError, match=said):
        check_parameters({"horizons": names})


def by_calendar(features: pd.DataFrame, sessions: int) -> np.ndarray:
    """Targets over the break by looking sessions up one by one: the last close at or before the same wall clock."""
    days = list(features["session"].unique())
    tables = dict(iter(features.groupby("session")))

    wall = {day: part["ts"].dt.tz_convert(CHICAGO).dt.tz_localize(None) for day, part in tables.items()}
    found = []
    for day, own in tables.items():
        later = days.index(day) + sessions
        if later >= len(days):
            found += [np.nan] * len(own)
            continue
        there, shift = tables[days[later]], days[later] - day
        for clock, close in zip(wall[day] + shift, own["close"], strict=True):
            before = there["close"][wall[days[later]] <= clock]
            known = clock <= wall[days[later]].iloc[-1] or there["bars_to_close"].iloc[-1] == 0
            end = before.iloc[-1] if len(before) else tables[days[later - 1]]["close"].iloc[-1]
            found.append(np.log(end / close) if known else np.nan)
    return np.array(found)


def test_targets_over_the_break_and_to_the_close_equal_a_lookup_by_the_calendar(world: World) -> None:
    features = world.features
    for name, sessions in (("1d", 1), ("5d", 5)):
        np.testing.assert_allclose(features[f"target_{name}"], by_calendar(features, sessions), rtol=0, atol=1e-14)
    ends = features.groupby("session")[["close", "bars_to_close", "ts"]].transform("last")
    expected = np.log(ends["close"] / features["close"]).where(
        (ends["bars_to_close"] == 0) & (features["ts"] < ends["ts"])
    )
    local = features["ts"].dt.tz_convert(CHICAGO)
    np.testing.assert_allclose(features["target_close"], expected, rtol=0, atol=1e-14)
    friday = (features["session"].dt.day_of_week == 4) & (local.dt.hour == 10)
    assert features.loc[friday, "target_1d"].notna().sum() > 100  # a weekend lies between


def test_labels_end_before_the_next_split_and_nothing_looks_ahead(world: World) -> None:
    """The proofs of `make prove-no-leak`, on labels that cross sessions, with the quantiles of the latest sessions."""
    train, validation = (positions(world.splits, name) for name in ("train", "validation"))
    assert label_end(world.features)[train].max() < validation[0] - 287
    prove_the_labels_are_in_order(world.features, world.splits, 288)
    for row, rolling in ((6000, False), (9000, True)):
        checkpoint = random_weights(world, rolling=rolling, seed=1)
        prove_the_future_is_unused(world, checkpoint, world.features["ts"].iloc[row], seed=row)


def test_long_memory_knows_of_errors_only_whose_horizons_have_ended(raw: pd.DataFrame) -> None:
    world = World.make(raw, IngestConfig(), FeaturesConfig(), SplitConfig(warmup_bars=600), ("1d",))
    train = positions(world.splits, "train")
    scale = SeasonalHAR(ScaleConfig(long_memory=True)).fit(world.features, train)
    for row in (7000, 9001):
        cut = world.features["ts"].iloc[row]
        later = world.with_future_changed(cut + pd.Timedelta(minutes=5), np.random.default_rng(row))
        one, other = (scale.describe(frame).state_NK[: row + 1] for frame in (world.features, later))
        np.testing.assert_array_equal(one, other)


def test_the_scale_adds_the_breaks_variance_and_shrinks_with_the_session(world: World, scale: SeasonalHAR) -> None:
    features, scale_NH = world.features, scale.transform(world.features)
    night, weekend = scale.breaks_2
    assert night == pytest.approx(MARKET.gap_volatility**2, rel=0.5) and weekend > 0
    h = dict(zip(NAMES, range(len(NAMES)), strict=True))
    whole = features["bars_to_close"].between(200, 275).to_numpy()
    late = features["bars_to_close"].between(1, 3).to_numpy()
    assert scale_NH[late, h["close"]].mean() < 0.2 * scale_NH[whole, h["close"]].mean()
    assert 1.5 < np.median(scale_NH[:, h["5d"]] / scale_NH[:, h["1d"]]) < 3.0
    realized = realized_volatility(features)
    for name in ("close", "1d"):
        known = np.isfinite(realized[:, h[name]])
        ratio = realized[known, h[name]] / scale_NH[known, h[name]]
        assert np.corrcoef(np.log(realized[known, h[name]] + 1e-6), np.log(scale_NH[known, h[name]]))[0, 1] > 0.15
        assert 0.5 < np.median(ratio) < 3.0
    again = scale_from_state(*scale.state())
    assert again.horizons == NAMES
    np.testing.assert_array_equal(again.transform(features), scale_NH)


def test_the_simulated_market_tells_its_law_over_a_break() -> None:
    """Outcomes of a market with large gaps fall below the true quantiles as often as they should."""
    config = SimulationConfig(sessions=90, seed=5, gap_volatility=0.02)
    law, grid = TrueQuantiles(config), TrueQuantiles(config).path
    rows = np.linspace(grid.grid.start[1], grid.grid.start[-3], 160).astype(int)
    ts = pd.DatetimeIndex(grid.grid.ts[rows] // 300_000_000_000 * 300_000_000_000, tz="UTC")
    with_gap = law.quantiles_at(ts, LEVELS, paths=128, horizons=("close", "1d")).set_index("horizon")
    width = (with_gap["q75"] - with_gap["q25"]).groupby(level=0).median()
    assert 0.02 * 1.1 < width["1d"] < 0.02 * 2.5 and width["close"] < 0.02  # 1.35 deviations of the gap and the day


def test_a_forecast_ends_with_the_session_and_at_the_same_hour_of_later_ones(raw: pd.DataFrame, world: World) -> None:
    maker = Forecaster(random_checkpoint(world.features, ScaleConfig()))
    upto = raw[raw["ts"] < pd.Timestamp("2016-03-11 20:00", tz="UTC")]  # a Friday, before the change to summer time
    frame = maker.forecast(upto).drop_duplicates("horizon").set_index("horizon")
    ends = {name: f"{end:%m-%d %H:%M}" for name, end in frame["target_time"].items()}
    assert ends == {
        "5m": "03-11 20:05", "45m": "03-11 20:45", "close": "03-11 22:00", "1d": "03-14 19:00", "5d": "03-18 19:00",
    }  # fmt: skip
    assert frame["return_quantile"].notna().all()
    last = maker.forecast(raw[raw["ts"] < pd.Timestamp("2016-03-11 22:00", tz="UTC")])
    there = last.groupby("horizon")["return_quantile"].apply(lambda part: part.notna().all())
    assert not there["45m"] and there["1d"] and there["5d"]


def test_features_of_other_horizons_are_refused_by_who_needs_them(world: World, raw: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"or train with horizons=5m\+45m\+close\+1d\+5d"):
        check_horizons(world.features.columns, HORIZONS)
    plain = World.make(raw, IngestConfig(), FeaturesConfig(), SplitConfig(warmup_bars=600))
    maker = Forecaster(random_checkpoint(world.features, ScaleConfig()))
    with pytest.raises(ValueError, match=r"run the features pipeline with horizons=5m\+45m\+close\+1d\+5d, or"):
        list(maker.sweep_table(plain.features))
    with pytest.raises(ValueError, match="run the ingest pipeline again"):
        build_features(plain.features.assign(open=1.0, high=1.0, low=1.0, volume=1), names=("1d",))


@pytest.mark.slow
def test_the_whole_road_takes_horizons_of_a_users_choice(tmp_path: Path) -> None:
    names = ("5m", "45m", "close", "1d")
    quick = f"horizons={'+'.join(names)},train.epochs=1,train.windows_per_epoch=256"
    output = output_of(kedro("run", "--env", "test", "--params", quick, data=tmp_path))
    scores = json.loads((tmp_path / "08_reporting" / "scores.json").read_text())
    assert list(scores["table"]["model"]) == [*names, "mean"] and "1d" in output
    assert set(scores["truth"]["model"]) == {*names, "mean"}
    refused = output_of(kedro("run", "--env", "test", "--pipelines", "train", data=tmp_path), fails=True)
    assert "horizons=5m+45m+close+1d" in refused
    unread = ("--pipelines", "forecast", "--params", "horizons=5m")
    assert "nothing in this run reads it" in output_of(
        kedro("run", "--env", "test", *unread, data=tmp_path), fails=True
    )
    output_of(kedro("run", "--env", "test", "--pipelines", "forecast", "--params", "forecast.paths=64", data=tmp_path))
    table = newest(tmp_path / "07_model_output" / "forecast.parquet") / "forecast.parquet"
    assert list(pd.read_parquet(table)["horizon"].unique()) == list(names)

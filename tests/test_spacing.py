"""Bars of 1, 5, 15 and 30 minutes from the same source: what they hold, what agrees between them, who refuses which."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tests.forecast.conftest import random_checkpoint
from tests.kedro_command import kedro, newest, output_of

import nqcast
from nqcast.constants import CONTEXT, FEATURES, HORIZONS
from nqcast.data.announcements import announcements_ahead
from nqcast.data.config import FeaturesConfig, ScaleConfig, SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import build_features
from nqcast.data.long_memory import long_memory
from nqcast.data.seasonal_har import SeasonalHAR, scale_from_state
from nqcast.data.splits import positions
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.baselines.informed import AllInputs
from nqcast.evaluation.baselines.volatility import _smooth
from nqcast.evaluation.conformal import OnlineCalibration
from nqcast.experiments.leak_proof import (
    World,
    prove_the_future_is_unused,
    prove_the_labels_are_in_order,
)
from nqcast.experiments.leak_proof import random_checkpoint as random_weights
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.live.feed import Feed
from nqcast.live.watcher import FORECASTS, Watcher
from nqcast.market.calendar import trading_sessions
from nqcast.market.config import IngestConfig
from nqcast.market.extend import extended
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.simulation.true_quantiles import TrueQuantiles
from nqcast.model.config import ModelConfig
from nqcast.model.embedding import ClockEncoding
from nqcast.parameters import ParameterError, check_parameters
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import MANIFEST, checkpoint_files
from nqcast.storage.verified import write_folder

MINUTES = (1, 5, 15, 30)
NAMES = ("30m", "60m", "2h")


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """Thirty sessions of one contract, of one minute, with the change of neither the contract nor the clock."""
    bars = simulate(SimulationConfig(sessions=30, seed=3))
    return bars[bars["contract"] == bars["contract"].iloc[0]].sort_values("ts", ignore_index=True)


@pytest.fixture(scope="module")
def worlds(raw: pd.DataFrame) -> dict[int, World]:
    split = SplitConfig(warmup_bars=600)
    return {m: World.make(raw, IngestConfig(bar_minutes=m), FeaturesConfig(), split, NAMES) for m in MINUTES}


@pytest.fixture(scope="module")
def scales(worlds: dict[int, World]) -> dict[int, SeasonalHAR]:
    return {m: SeasonalHAR(ScaleConfig()).fit(w.features, positions(w.splits, "train")) for m, w in worlds.items()}


def at_common_ends(worlds: dict[int, World]) -> dict[int, np.ndarray]:
    """Rows of each table whose bars end together, at every half-hour at which all have one that traded."""
    ends = {m: w.features["ts"] + pd.Timedelta(minutes=m) for m, w in worlds.items()}
    common = set.intersection(*(set(end[worlds[m].features["traded"]]) for m, end in ends.items()))
    return {m: np.flatnonzero(end.isin(common)) for m, end in ends.items()}


@pytest.mark.parametrize("minutes", MINUTES)
def test_bars_equal_those_that_pandas_resamples_session_by_session(raw: pd.DataFrame, minutes: int) -> None:
    found = build_bars(raw, IngestConfig(bar_minutes=minutes)).bars
    calendar = trading_sessions(found["session"].iloc[0].date(), found["session"].iloc[-1].date())
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "square": "sum"}
    checked = 0
    for row in calendar.itertuples():
        inside = raw[(raw["ts"] >= row.open) & (raw["ts"] < row.close)]
        before = inside["close"].shift().fillna(inside["open"])
        minute = inside.assign(square=np.log(inside["close"] / before) ** 2).set_index("ts")
        expected = minute.resample(f"{minutes}min").agg(rules).dropna()
        own = found[(found["session"] == row.session) & found["traded"]].set_index("ts")
        np.testing.assert_array_equal(own.index, expected.index)
        prices = list(rules)[:-1]
        np.testing.assert_array_equal(own[prices].to_numpy(float), expected[prices].to_numpy(float))
        np.testing.assert_allclose(own["realized_variance"], expected["square"], rtol=1e-9, atol=1e-18)
        checked += len(own)
        slots = found[found["session"] == row.session]["ts"]
        assert (slots.diff().dropna() == pd.Timedelta(minutes=minutes)).all()
    assert checked == found["traded"].sum() > 1000


def test_a_session_that_ends_inside_a_bar_keeps_its_last_trades() -> None:
    """Until September 2015 the close was at 16:15: the bar of half an hour from 16:00 holds a quarter of one."""
    market = simulate(SimulationConfig(sessions=4, seed=1, start="2015-06-01"))
    silent = market["ts"].dt.tz_convert("America/Chicago").dt.strftime("%d %H").eq("02 16")  # no trade after 16:00
    fine, coarse = (build_bars(market[~silent], IngestConfig(bar_minutes=m, doubtful="warn")).bars for m in (5, 30))
    last = coarse.groupby("session").last()
    assert set(last["ts"].dt.tz_convert("America/Chicago").dt.strftime("%H:%M")) == {"16:00"}
    np.testing.assert_array_equal(last["close"], fine.groupby("session")["close"].last())
    assert (last["bars_to_close"] == 0).all()


def test_what_must_not_depend_on_the_spacing_does_not(worlds: dict[int, World]) -> None:
    rows = at_common_ends(worlds)
    table = {m: w.features.iloc[rows[m]].reset_index(drop=True) for m, w in worlds.items()}
    assert len(table[5]) > 1000
    ahead = {m: announcements_ahead(w.features, ("employment",))[rows[m]] for m, w in worlds.items()}
    assert ahead[5].any()
    for m in (1, 15, 30):
        for name in ("close", "session", "day_of_week", *(f"target_{horizon}" for horizon in NAMES)):
            pd.testing.assert_series_equal(table[m][name], table[5][name])
        np.testing.assert_array_equal(ahead[m], ahead[5])
        end = {k: table[k]["bar_in_day"] * k + k for k in (m, 5)}
        np.testing.assert_array_equal(end[m], end[5])
        np.testing.assert_array_equal(table[m]["bars_to_close"] * m, table[5]["bars_to_close"] * 5)
        by_session = {k: worlds[k].features.groupby("session")["realized_variance"].sum() for k in (m, 5)}
        pd.testing.assert_series_equal(by_session[m], by_session[5], rtol=1e-9)
        filled = slice(20, None)
        for window in (12, 36, 72):  # means over bars of a sum within each
            per_bar = {k: table[k][f"rv_{window}"][filled] - 0.5 * 2 * np.log(k) for k in (m, 5)}
            moved = per_bar[m] - per_bar[5]
            assert np.abs(moved - moved.median()).quantile(0.9) < 1e-9 and abs(moved.median()) < 1e-9
        for name in ("macd", "ema_dev_50", "ema_slope_50", "roc_20"):
            assert np.corrcoef(table[m][name][filled], table[5][name][filled])[0, 1] > (0.9 if m < 30 else 0.75)
    pd.testing.assert_series_equal(table[1]["roc_5"], table[5]["roc_5"])


def test_the_scale_says_the_same_whatever_the_spacing(worlds: dict[int, World], scales: dict[int, SeasonalHAR]) -> None:
    rows = at_common_ends(worlds)
    log_scale = {m: np.log(scales[m].transform(worlds[m].features)[rows[m]]) for m in MINUTES}
    for m in (1, 15, 30):
        for h in range(len(NAMES)):
            one, other = log_scale[m][200:, h], log_scale[5][200:, h]
            assert np.corrcoef(one, other)[0, 1] > 0.93 and abs(np.median(one - other)) < 0.06
        day = {k: scales[k].profiles_PS[0].sum() for k in (m, 5)}
        assert day[m] == pytest.approx(day[5], rel=0.06)
        again = scale_from_state(*scales[m].state())
        assert again.spacing == Spacing(m) and scales[m].state()[1]["bar_minutes"] == m
    assert "bar_minutes" not in scales[5].state()[1]


def test_long_memory_reaches_back_as_long_whatever_the_spacing(
    worlds: dict[int, World], scales: dict[int, SeasonalHAR]
) -> None:
    rows, columns = at_common_ends(worlds), {}
    for m in (5, 15):
        features, scale = worlds[m].features, scales[m]
        found = long_memory(features, scale.profiles_PS, scale.transform(features))
        columns[m] = {name: column[rows[m]][300:] for name, column in found.items()}
    assert columns[5].keys() == columns[15].keys()
    for name in ("signed_276", "drawdown_20", "variance_60", "europe_5", "since_cash_open", "sine_1", "pause"):
        assert np.corrcoef(columns[5][name], columns[15][name])[0, 1] > 0.95, name
    for name in ("weekday_1", "half_day"):
        np.testing.assert_array_equal(columns[5][name], columns[15][name])


def test_a_network_keeps_its_window_its_tokens_and_its_clock_in_time() -> None:
    for size in ("laptop", "test"):
        usual = ModelConfig(size=size)
        for m in MINUTES:
            own = usual.at(Spacing(m))
            assert own.context * m == CONTEXT * 5 and own.n_patches == usual.n_patches
            assert own.at(Spacing(m)) == own
    assert ModelConfig().at(Spacing()) == ModelConfig() and "bar_minutes" not in ModelConfig().model_dump()
    assert ModelConfig().at(Spacing(1)).recent_bars == (5, 15, 60) and ModelConfig().at(Spacing(30)).recent_bars == (
        1,
        2,
    )
    encoders = {m: ClockEncoding(8, 4, 2, (), Spacing(m).slots) for m in (5, 15)}
    encoders[15].load_state_dict(encoders[5].state_dict())
    one, other = (encoders[m]({"bar_in_day": torch.tensor([[510 // m]])}) for m in (5, 15))
    torch.testing.assert_close(one, other)


def test_the_simulated_market_tells_its_law_from_the_end_of_the_bar() -> None:
    law = TrueQuantiles(SimulationConfig(sessions=3, seed=3))
    quarter = pd.DatetimeIndex(["2016-01-05 15:00", "2016-01-05 21:30"], tz="UTC")
    found = law.anchors(quarter, NAMES, Spacing(15))
    same = law.anchors(quarter + pd.Timedelta("10min"), NAMES)
    np.testing.assert_array_equal(found.first, same.first)
    np.testing.assert_array_equal(found.steps, same.steps)


def test_a_step_of_the_online_calibration_counts_the_outcomes_that_overlap() -> None:
    moved = {}
    for m in (5, 15):
        ts = pd.date_range("2016-01-04", periods=4 * 60 // m, freq=f"{m}min").to_numpy()
        online = OnlineCalibration((0.5,), (60,), 0.1)
        shape = (len(ts), 1, 1)
        online.run(ts, np.zeros(shape), np.full(shape[:2], 1.0), np.ones(shape[:2]))
        moved[m] = online.offset_HQ[0, 0]
    assert moved[5] == pytest.approx(moved[15], rel=0.1) and moved[5] > 0.1


@pytest.mark.parametrize("minutes", (1, 15))
def test_nothing_looks_ahead_at_another_spacing(worlds: dict[int, World], minutes: int) -> None:
    world = worlds[minutes]
    rows = Spacing(minutes).rows(CONTEXT)
    prove_the_labels_are_in_order(world.features, world.splits, rows)
    first = {name: positions(world.splits, name)[0] for name in ("train", "validation")}
    assert first["train"] >= Spacing(minutes).rows(600)
    n = len(world.features)
    for row, rolling in ((n // 2, False), (n - 90, True)):
        checkpoint = random_weights(world, rolling=rolling, seed=1)
        assert checkpoint.metadata.context == rows and checkpoint.metadata.spacing == Spacing(minutes)
        prove_the_future_is_unused(world, checkpoint, world.features["ts"].iloc[row], seed=row)
        if minutes == 1:
            return


def test_a_forecast_is_made_of_bars_as_the_checkpoint_knows_them(
    raw: pd.DataFrame, worlds: dict[int, World], tmp_path: Path
) -> None:
    """From a folder: whole bars alone are taken, and what is issued is what the table of its bars says."""
    world = worlds[15]
    folder = tmp_path / "checkpoint"
    write_folder(folder, checkpoint_files(random_checkpoint(world.features, ScaleConfig())), MANIFEST)
    maker = nqcast.load(folder, config=ForecastConfig(min_bars=600))
    assert maker.spacing == Spacing(15) and maker.ingest.bar_minutes == 15 and maker.fewest == 200
    known = raw[raw["ts"] < pd.Timestamp("2016-02-03 16:52", tz="UTC")]
    issued = maker.issue(known)
    made = issued.forecast["issue_time"].iloc[0]
    assert made == pd.Timestamp("2016-02-03 16:45", tz="UTC") and issued.newest == made
    past = world.features[world.features["ts"] + pd.Timedelta("15min") <= made]
    expected = maker.quantiles(past).ravel()
    np.testing.assert_allclose(issued.forecast["return_quantile"], expected, rtol=1e-6, atol=1e-9)
    five = known[["open", "high", "low", "close"]].set_axis(known["ts"])
    rules = {"open": "first", "high": "max", "low": "min", "close": "last"}
    five = five.resample("5min").agg(rules).dropna()
    five["volume"] = 100 + np.arange(len(five)) % 2
    assert maker.forecast(five)["issue_time"].iloc[0] == made


def test_what_comes_in_is_watched_at_the_checkpoints_spacing(
    raw: pd.DataFrame, worlds: dict[int, World], tmp_path: Path
) -> None:
    maker = Forecaster(random_checkpoint(worlds[15].features, ScaleConfig()), config=ForecastConfig(min_bars=600))
    (tmp_path / "in").mkdir()
    watcher = Watcher(maker, Feed(tmp_path / "in"), tmp_path)
    done = 0
    for until in ("02-03T16:00", "02-03T16:14", "02-03T16:15", "02-03T16:50"):
        ended = raw[raw["ts"] < pd.Timestamp(f"2016-{until}Z")]
        ended.iloc[done:].to_csv(tmp_path / "in" / f"{done}.csv", index=False)
        done = len(ended)
        watcher.step()
    made = [json.loads(line) for line in (tmp_path / FORECASTS).read_text().splitlines()]
    assert [record["issue_time"][11:16] for record in made] == ["16:00", "16:15", "16:30", "16:45"]
    known = raw[raw["ts"] < pd.Timestamp("2016-02-03T16:15Z")]
    expected = maker.forecast(known).set_index("horizon")["return_quantile"]["30m"]
    np.testing.assert_allclose(made[1]["quantiles"]["30m"], expected, rtol=1e-6, atol=1e-9)


def test_parameters_count_bars_of_five_minutes_and_the_default_names_no_spacing(worlds: dict[int, World]) -> None:
    assert "bar_minutes" not in IngestConfig().model_dump() and check_parameters({}).bar_minutes == 5
    module = NQDataModule.from_frames(worlds[15].features, SplitConfig(warmup_bars=600))
    assert module.context == module.table.context == 96
    fits = ("30m", "60m", "2h", "4h")
    assert check_parameters({"bar_minutes": 30}).horizons == fits and check_parameters({}).horizons == ("15m", *fits)
    assert check_parameters({"bar_minutes": 30, "horizons": ["15m", *fits]}).horizons == fits  # as conf/base has it
    assert check_parameters({"bar_minutes": 15}).horizons == ("15m", *fits)
    for own in ("15m+30m+60m+2h+4h", ["15m", "30m"]):
        with pytest.raises(ParameterError, match=r"found 15m: set horizons=30m.*, or finer bars"):
            check_parameters({"bar_minutes": 30, "horizons": own})
    with pytest.raises(ParameterError, match="bar_minutes"):
        check_parameters({"bar_minutes": 7})
    with pytest.raises(ParameterError, match="set `bar_minutes`, which the whole run shares"):
        check_parameters({"model": {"bar_minutes": 15}})


def test_a_window_of_no_whole_tokens_at_the_spacing_is_refused_with_the_parameters() -> None:
    assert check_parameters({"model": {"patch_length": 16}}).model.patch_length == 16
    for tokens in (True, False):
        with pytest.raises(ParameterError, match=r"found 96 bars .* and 5 for model.patch_length=16"):
            check_parameters({"bar_minutes": 15, "horizons": "30m", "model": {"patch_length": 16, "tokens": tokens}})
    check_parameters({"bar_minutes": 15, "horizons": "30m", "model": {"patch_length": 16, "tokens": "auto"}})


def test_the_informed_baselines_see_and_correct_as_far_back_in_time(worlds: dict[int, World]) -> None:
    """At one minute all rows that the rolling quantiles read are corrected; the spans are those of the network."""
    for m in MINUTES:
        features, train = worlds[m].features, positions(worlds[m].splits, "train")
        baseline = make_baseline("linear", (0.25, 0.5, 0.75), NAMES)
        assert isinstance(baseline, AllInputs)
        baseline.fit(features, train)
        spans = ModelConfig().at(Spacing(m)).recent_bars
        volatility = baseline._scale.describe(features)
        rows = np.arange(len(features) - 50, len(features))
        found = baseline._inputs(features, volatility, rows)
        wanted = len(spans) * len(FEATURES)
        assert found.shape[1] == wanted + volatility.state_NK.shape[1]
        x = np.concatenate([features[list(FEATURES)].rolling(span).mean().to_numpy()[rows] for span in spans], axis=1)
        mean, deviation = baseline._moments
        np.testing.assert_allclose(found[:, :wanted], np.clip((x - mean) / deviation, -8, 8), rtol=1e-6, atol=1e-6)
        seen = []
        baseline._correction = lambda x, seen=seen: (seen.append(len(x)), np.zeros((len(x), len(NAMES))))[1]
        baseline.predict(features, rows)
        assert seen == [min(50 + Spacing(m).rows(26_000), len(features))]


def test_garch_smooths_its_profile_over_as_much_time_whatever_the_slots() -> None:
    five = np.random.default_rng(0).gamma(2.0, size=288)
    np.testing.assert_array_equal(_smooth(five), 0.5 * five + 0.25 * (np.roll(five, 1) + np.roll(five, -1)))
    for m in MINUTES:
        pulse = np.eye(1, Spacing(m).slots)[0]
        smooth = _smooth(pulse)
        away = np.minimum(np.arange(len(pulse)), len(pulse) - np.arange(len(pulse))) * m
        np.testing.assert_allclose(smooth, np.maximum(1 - away / 10, 0) / max(10 / m, 1), atol=1e-12)
        assert smooth.sum() == pytest.approx(1.0)


def test_a_file_that_is_too_coarse_for_a_checkpoint_names_the_checkpoint_to_take(
    raw: pd.DataFrame, worlds: dict[int, World]
) -> None:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    five = raw.set_index("ts").resample("5min").agg(rules).dropna().reset_index()
    maker = Forecaster(random_checkpoint(worlds[1].features, ScaleConfig()))
    with pytest.raises(ValueError, match=r"one-minute bars .* every 5 minutes: .* a checkpoint of 5-minute bars"):
        maker.forecast(five)


def test_bars_of_another_spacing_are_refused_in_one_line(raw: pd.DataFrame, worlds: dict[int, World]) -> None:
    five = raw.set_index("ts").resample("5min").agg({"open": "first", "high": "max", "low": "min", "close": "last"})
    five = five.dropna().reset_index().assign(volume=100)
    with pytest.raises(ValueError, match=r"of 1 minutes can be made, found one every 5 minutes: .* set bar_minutes=5"):
        build_bars(five, IngestConfig(bar_minutes=1))
    for found, wanted in ((15, 15), (15, 30), (30, 30)):
        told = (
            rf"found one every {found} minutes .*: export 1-minute bars, of which bar_minutes={found} makes such bars$"
        )
        with pytest.raises(ValueError, match=told):
            build_bars(raw[raw["ts"].dt.minute % found == 0], IngestConfig(bar_minutes=wanted))
    maker = Forecaster(random_checkpoint(worlds[15].features, ScaleConfig()))
    with pytest.raises(ValueError, match="of 15 minutes, found bars of 5: ingest them with bar_minutes=15, or train"):
        list(maker.sweep_table(worlds[5].features))
    with pytest.raises(ValueError, match="found bars of 5:"):
        maker.quantiles(worlds[5].features)
    grids = [build_bars(raw, IngestConfig(bar_minutes=m)).bars for m in (5, 30)]
    with pytest.raises(ValueError, match="expected bars of 5 minutes, found bars of 30"):
        extended(*grids, IngestConfig())
    with pytest.raises(ValueError, match="multiple of 30 minutes"):
        build_features(grids[1], names=("45m",))


@pytest.mark.slow
def test_the_whole_road_takes_bars_of_half_an_hour(tmp_path: Path) -> None:
    asked = "bar_minutes=30,horizons=15m+30m"
    assert "set horizons=30m, or finer bars" in output_of(
        kedro("run", "--env", "test", "--params", asked, data=tmp_path), fails=True
    )
    said = "horizons=30m+60m+2h+4h: those of the default list that end with a bar of 30 minutes"
    quick = "bar_minutes=30,train.epochs=1,train.windows_per_epoch=256"
    assert said in output_of(kedro("run", "--env", "test", "--params", quick, data=tmp_path))
    scores = json.loads((tmp_path / "08_reporting" / "scores.json").read_text())
    assert set(scores["truth"]["model"]) == {*list(HORIZONS)[1:], "mean"}
    refused = ("--pipelines", "train", "--params", "horizons=30m+60m+2h+4h")
    assert "expected bars of 5 minutes, found bars of 30" in output_of(
        kedro("run", "--env", "test", *refused, data=tmp_path), fails=True
    )
    unread = ("--pipelines", "forecast", "--params", "bar_minutes=15")
    assert "nothing in this run reads it" in output_of(
        kedro("run", "--env", "test", *unread, data=tmp_path), fails=True
    )
    output_of(kedro("run", "--env", "test", "--pipelines", "forecast", data=tmp_path))
    table = newest(tmp_path / "07_model_output" / "forecast.parquet") / "forecast.parquet"
    assert (pd.read_parquet(table)["issue_time"].dt.minute % 30 == 0).all()

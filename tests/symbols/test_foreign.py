"""Another market's bars beside one's own: joined by the clock, causal, and absent aloud."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.forecast.conftest import random_checkpoint

from nqcast.constants import FEATURES
from nqcast.data.config import FeaturesConfig, ScaleConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.pipelines.features import make_features
from nqcast.symbols.foreign import own_features

DEFAULT = ["15m", "30m", "60m", "2h", "4h"]


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return simulate(SimulationConfig(sessions=60, seed=7))


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-minute bars of another market over the same sessions, with a hole of two hours."""
    bars = simulate(SimulationConfig(sessions=60, seed=8, initial_price=2000.0))
    hole = (bars["ts"] >= HOLE) & (bars["ts"] < HOLE + pd.Timedelta("2h"))
    file = tmp_path_factory.mktemp("foreign") / "es.parquet"
    bars[~hole].to_parquet(file)
    return file


HOLE = pd.Timestamp("2016-02-03 14:00", tz="UTC")


def test_returns_are_joined_by_the_clock_and_stand_still_in_a_hole(raw: pd.DataFrame, other: Path) -> None:
    bars = build_bars(raw, IngestConfig()).bars
    table = make_features(bars, FeaturesConfig(own=(f"es={other}",)), DEFAULT, IngestConfig())
    names = [name for name in table.columns if name.startswith("es_")]
    assert [name.split(":")[0] for name in names] == ["es_return", "es_volatility"]
    first = pd.read_parquet(other)
    foreign = first[first["contract"] == first["contract"].iloc[0]].set_index("ts")["close"]
    for row in (700, 2500, 6000):
        now, before = (table["ts"].iloc[k] + pd.Timedelta("4min") for k in (row, row - 1))
        expected = np.log(foreign[:now].iloc[-1] / foreign[:before].iloc[-1])  # what had traded when each bar ended
        assert table[names[0]].iloc[row] == pytest.approx(expected, abs=1e-15)
    inside = table["ts"].between(HOLE, HOLE + pd.Timedelta("115min"))
    assert inside.sum() == 24 and (table.loc[inside, names[0]] == 0).all()
    after = np.flatnonzero(inside)[-1] + 1
    assert table[names[0]].iloc[after] != 0  # the hole's whole move comes with its first bar


def test_a_network_is_told_of_another_market_and_a_forecast_says_if_absent(
    raw: pd.DataFrame, other: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bars = build_bars(raw, IngestConfig()).bars
    table = make_features(bars, FeaturesConfig(own=(f"es={other}",)), DEFAULT, IngestConfig())
    maker = Forecaster(random_checkpoint(table, ScaleConfig()), own_features=[f"es={other}"])
    assert maker.metadata.features[:24] == FEATURES and maker.model.config.n_features == 26
    with caplog.at_level(logging.WARNING):
        first = maker.forecast(raw)
    assert "stands still since" not in caplog.text
    known = pd.read_parquet(other)
    known = known[known["ts"] < raw["ts"].max() - pd.Timedelta("8h")]
    known.to_parquet(tmp_path / "es.parquet")
    late = Forecaster(random_checkpoint(table, ScaleConfig()), own_features=[f"es={tmp_path / 'es.parquet'}"])
    with caplog.at_level(logging.WARNING):
        second = late.forecast(raw)
    end = f"{known['ts'].max().floor('5min'):%Y-%m-%d %H:%M} UTC"
    assert caplog.text.count(f"that market's bars end at {end}") == 1  # for both of its features
    assert (first["return_quantile"] != second["return_quantile"]).any()
    with pytest.raises(ValueError, match="own features that the checkpoint was trained with"):
        Forecaster(random_checkpoint(table, ScaleConfig()))


def test_a_file_of_another_time_or_without_a_name_is_refused(raw: pd.DataFrame, other: Path, tmp_path: Path) -> None:
    bars = build_bars(raw, IngestConfig()).bars
    early = pd.read_parquet(other)
    early[early["ts"] < pd.Timestamp("2016-02-26 22:00", tz="UTC")].to_parquet(tmp_path / "old.parquet")
    bars = bars[bars["session"] > pd.Timestamp("2016-02-26")].reset_index(drop=True)
    with pytest.raises(ValueError, match="give a file that covers the same time"):
        make_features(bars, FeaturesConfig(own=(f"es={tmp_path / 'old.parquet'}",)), DEFAULT, IngestConfig())
    with pytest.raises(ValueError, match="write es=FILE"):
        own_features([f"e s={other}"], IngestConfig())


def test_a_column_of_no_volume_is_none_and_what_is_wrong_with_a_file_says_whose_it_is(
    raw: pd.DataFrame, other: Path, tmp_path: Path
) -> None:
    frame = pd.read_parquet(other)
    frame.assign(volume=np.nan).to_parquet(tmp_path / "es.parquet")
    bars = build_bars(raw, IngestConfig()).bars
    frame.drop(columns="volume").to_parquet(tmp_path / "without.parquet")
    files = (tmp_path / "es.parquet", tmp_path / "without.parquet")
    empty, without = (own_features([f"es={file}"], IngestConfig()) for file in files)
    for one, two in zip(empty, without, strict=True):
        np.testing.assert_array_equal(one.compute(bars), two.compute(bars))
    frame.assign(high=frame["low"] - 1).to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(ValueError, match=r"^es=.*bad\.parquet: expected"):
        own_features([f"es={tmp_path / 'bad.parquet'}"], IngestConfig())

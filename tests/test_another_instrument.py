"""Bars of another index future take the same road: its tick, its contracts and its name are its own."""

from __future__ import annotations

import datetime as dt
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.forecast.conftest import random_checkpoint
from tests.kedro_command import kedro, newest, output_of
from tests.market.known_rolls import known_rolls

from nqcast.data.config import FeaturesConfig, ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.fingerprint import data_card, tick_of
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.text import heading
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.symbols import MONTH_CODES
from nqcast.parameters import ParameterError, check_parameters


def another_future(root: str, price: float, tick: float) -> tuple[pd.DataFrame, SimulationConfig]:
    """Simulated 1-minute bars at another level, on another tick, under symbols such as ESH6."""
    config = SimulationConfig(sessions=60, seed=11, initial_price=price, tick=tick)
    raw = simulate(config)
    symbol = {code: f"{root}{MONTH_CODES[int(code[4:]) - 1]}{code[3]}" for code in raw["contract"].unique()}
    return raw.assign(contract=raw["contract"].map(symbol)), config


@pytest.mark.parametrize(("root", "price", "tick"), [("ES", 2000.0, 0.25), ("YM", 17_000.0, 1.0), ("RTY", 1100.0, 0.1)])
def test_its_bars_are_joined_and_carry_its_tick_into_features(root: str, price: float, tick: float) -> None:
    raw, config = another_future(root, price, tick)
    ingested = build_bars(raw, IngestConfig(tick=tick))
    (roll,) = ingested.roll_ledger
    assert (roll["from_contract"], roll["to_contract"]) == (f"{root}H6", f"{root}M6")
    assert roll["factor"] == pytest.approx(known_rolls(config)[0]["factor"], rel=3 * tick / price)
    assert ingested.report["off_tick_prices"] == 0 and ingested.report["doubts"] == []
    assert tick_of(build_features(ingested.bars, FeaturesConfig(tick=tick))) == tick


def test_a_file_on_another_tick_than_the_one_that_is_set_is_refused() -> None:
    raw, _ = another_future("RTY", 1100.0, 0.1)
    with pytest.raises(ValueError, match=r"multiples of 0\.1, not of 0\.25, the tick that is set.*instrument=RTY"):
        build_bars(raw, IngestConfig())


def test_two_products_in_one_file_are_refused() -> None:
    raw = pd.concat([another_future(root, 2000.0, 0.25)[0].head(5000) for root in ("ES", "NQ")], ignore_index=True)
    with pytest.raises(ValueError, match=r"bars of one product, found contracts of ES, NQ"):
        build_bars(raw.sort_values(["ts", "contract"], ignore_index=True), IngestConfig(doubtful="warn"))


def test_one_tick_is_asked_for_in_both_places() -> None:
    with pytest.raises(ParameterError, match=r"expected one tick, found ingest.tick 0.1 and features.tick 0.25"):
        check_parameters({"ingest": {"tick": 0.1}})
    assert check_parameters({"ingest": {"tick": 0.1}, "features": {"tick": 0.1}}).features.tick == 0.1


def test_a_forecast_uses_the_tick_of_its_checkpoint_and_the_name_of_its_contract() -> None:
    raw, _ = another_future("YM", 17_000.0, 1.0)
    features = build_features(build_bars(raw, IngestConfig(tick=1.0)).bars, FeaturesConfig(tick=1.0))
    checkpoint = random_checkpoint(features, ScaleConfig())
    told = replace(checkpoint, metadata=replace(checkpoint.metadata, data=data_card(features)))
    by_checkpoint = Forecaster(told).forecast(raw)
    by_parameter = Forecaster(checkpoint, ingest=IngestConfig(tick=1.0)).forecast(raw)
    pd.testing.assert_frame_equal(by_checkpoint, by_parameter, check_exact=True)
    wrong = Forecaster(checkpoint).forecast(raw)
    assert not np.array_equal(by_checkpoint["return_quantile"].dropna(), wrong["return_quantile"].dropna())
    assert heading(by_checkpoint).startswith("YMM6 at ")


def test_a_contract_without_a_product_is_given_none() -> None:
    row = {"last_price": 4500.0, "issue_time": pd.Timestamp("2016-03-28 17:00", tz="UTC")}
    assert heading(pd.DataFrame([{**row, "contract": "201606"}])).startswith("contract 201606 at 4,500.00")
    assert heading(pd.DataFrame([{**row, "contract": "unknown"}])).startswith("price at 4,500.00")


@pytest.mark.slow
def test_a_users_currency_bars_become_features_by_the_name_of_their_instrument(real_data: Any, tmp_path: Any) -> None:
    raw = pd.read_parquet(real_data / "eurusd_1m_2018_2019.parquet")
    raw[raw["ts"] < "2018-02-10"].to_parquet(tmp_path / "mine.parquet")
    chosen = f"bars={tmp_path / 'mine.parquet'},instrument=EURUSD,ingest.volume=false,features.volume=false"
    output_of(kedro("run", "--env", "nq", "--pipelines", "ingest,features", "--params", chosen, data=tmp_path))
    features = pd.read_parquet(newest(tmp_path / "nq" / "04_feature" / "features.parquet") / "features.parquet")
    opening = features.loc[features["session_first"], "ts"].dt.tz_convert("America/New_York").dt.time
    assert opening.mode()[0] == dt.time(17) and features["session"].dt.day_of_week.max() == 4
    assert features["target_4h"].notna().mean() > 0.8, "sessions of 24 hours leave most bars a 4h target"
    refused = kedro("run", "--env", "nq", "--pipelines", "ingest", "--params", chosen.replace("EURUSD,", "EURUDS,"),
                    data=tmp_path)  # fmt: skip
    assert "did you mean EURUSD?" in output_of(refused, fails=True)

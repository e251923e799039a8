"""One network over a folder of symbols by the command, and a forecast of each and of one that it has never seen."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.kedro_command import kedro, newest, output_of

import nqcast
from nqcast.datasets import VerifiedPartitionsDataset
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate

SYMBOLS = {"ONE": 1, "YM": 3}


@pytest.mark.slow
def test_a_folder_of_symbols_trains_as_one_and_forecasts_each_and_a_new_one(tmp_path: Path) -> None:
    folder, data = tmp_path / "bars", tmp_path / "data"
    folder.mkdir()
    for symbol, seed in SYMBOLS.items():
        simulate(SimulationConfig(sessions=45, seed=seed)).to_parquet(folder / f"{symbol}.parquet")
    chosen = f"bars={folder},ingest.doubtful=warn"
    quick = f"{chosen},train.epochs=1,partitions.workers=1"
    done = kedro("run", "--env", "test", "--pipelines", "train_many", "--params", quick, data=data)
    output_of(done)
    table = done.stdout[done.stdout.index("One network over 2 symbols, on validation") :].split("\n\n")[0]
    assert max(len(line.rstrip()) for line in table.splitlines()) <= 80
    pool = json.loads((newest(data / "06_models" / "pool.json") / "pool.json").read_text())
    assert set(pool["symbols"]) == set(SYMBOLS) and len({row["val_loss"] for row in pool["symbols"].values()}) == 2
    models = VerifiedPartitionsDataset(filepath=str(data / "06_models" / "symbols")).load()
    of_one = models[pool["symbols"]["ONE"]["partition"]]()
    forecasts = pd.read_parquet(
        newest(data / "07_model_output" / "symbol_forecasts.parquet") / "symbol_forecasts.parquet"
    )
    assert set(forecasts["symbol"]) == set(SYMBOLS)
    by_hand = nqcast.load(of_one["checkpoint"], of_one["record"]["calibration"]).forecast(folder / "ONE.parquet")
    own = forecasts[forecasts["symbol"] == "ONE"].drop(columns="symbol").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, by_hand)
    assert of_one["checkpoint"].metadata.data.instrument["symbol"] == "NQ"
    assert models[pool["symbols"]["YM"]["partition"]]()["checkpoint"].metadata.data.instrument["symbol"] == "YM"

    simulate(SimulationConfig(sessions=40, seed=9)).to_parquet(folder / "NEW.parquet")
    simulate(SimulationConfig(sessions=2, seed=10)).to_parquet(folder / "SHORT.parquet")
    printed = output_of(kedro("run", "--env", "test", "--pipelines", "forecast_many", "--params", chosen, data=data))
    assert "NEW, new to the network" in printed and "SHORT: no forecast: expected" in printed
    forecasts = pd.read_parquet(
        newest(data / "07_model_output" / "symbol_forecasts.parquet") / "symbol_forecasts.parquet"
    )
    assert set(forecasts["symbol"]) == {*SYMBOLS, "NEW"}
    assert forecasts.loc[forecasts["symbol"] == "NEW", "return_quantile"].notna().any()

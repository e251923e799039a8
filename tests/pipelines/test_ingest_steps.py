"""The nodes of ingest are the steps of `build_bars`, and write nothing of a file that one of them refuses."""

from __future__ import annotations

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner

from nqcast.data.config import FeaturesConfig
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.schema import PRICES
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.pipelines.ingest import create_pipeline

OUTPUTS = ("bars", "roll_ledger", "quarantine", "data_report")


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    return simulate(SimulationConfig(sessions=12))


def run(raw: pd.DataFrame) -> DataCatalog:
    given = {"raw_bars": raw, "params:ingest": IngestConfig(), "params:features": FeaturesConfig()}
    catalog = DataCatalog(
        {name: MemoryDataset(data, copy_mode="assign") for name, data in given.items()}
        | {node: MemoryDataset(copy_mode="assign") for node in create_pipeline().all_outputs()}
    )
    try:
        SequentialRunner().run(create_pipeline(), catalog)
    except ValueError as error:
        catalog["refused"] = MemoryDataset(str(error))
    return catalog


def test_the_nodes_make_what_build_bars_makes(raw: pd.DataFrame) -> None:
    catalog, whole = run(raw), build_bars(raw, IngestConfig())
    pd.testing.assert_frame_equal(catalog["bars"].load(), whole.bars)
    pd.testing.assert_frame_equal(catalog["quarantine"].load(), whole.quarantine)
    assert catalog["roll_ledger"].load() == whole.roll_ledger
    assert catalog["data_report"].load() == whole.report


def test_a_file_that_the_last_check_refuses_leaves_no_output(raw: pd.DataFrame) -> None:
    raw = raw.copy()
    raw.loc[raw["ts"] > raw["ts"].quantile(0.5), list(PRICES)] *= 2
    catalog = run(raw)
    assert "price unit" in catalog["refused"].load()
    assert not any(catalog[name].exists() for name in OUTPUTS)

"""A small file that becomes a large one is refused before it does."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nqcast.market import unpacked_size
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.vendor import read_bars


def test_a_dictionary_of_one_long_cell_is_refused_without_its_gigabytes(tmp_path: Path) -> None:
    rows = 200_000
    long = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["NQ" * 50_000]))
    columns = {name: pa.array([1.0] * rows) for name in ("open", "high", "low", "close")}
    stamps = pa.array([f"2016-01-04T{i}" for i in range(rows)])
    pq.write_table(pa.table({"ts": stamps, **columns, "contract": long}),
                   tmp_path / "x.parquet", store_schema=False)  # fmt: skip
    assert (tmp_path / "x.parquet").stat().st_size < 5e6
    tracemalloc.start()
    before = pa.total_allocated_bytes()
    with pytest.raises(ValueError, match="a cell of 100,000 characters"):
        read_bars(tmp_path / "x.parquet")
    assert tracemalloc.get_traced_memory()[1] + pa.total_allocated_bytes() - before < 2e8  # written out: 20 GB
    tracemalloc.stop()


def test_a_packed_text_is_refused_by_what_it_unpacks_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacked_size, "MOST_BYTES", 5_000_000)
    with gzip.open(tmp_path / "x.csv.gz", "wb") as file:
        file.write(b"ts,open,high,low,close\n" + b"1" * 20_000_000)
    with pytest.raises(ValueError, match=r"more than 0\.00\d+ GiB in .*unpack it yourself"):
        read_bars(tmp_path / "x.csv.gz")


def test_more_rows_than_bars_have_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bars = simulate(SimulationConfig(sessions=3))
    bars.to_parquet(tmp_path / "x.parquet")
    pd.testing.assert_frame_equal(read_bars(tmp_path / "x.parquet")[["ts", "close"]], bars[["ts", "close"]])
    monkeypatch.setattr(unpacked_size, "MOST_ROWS", 1_000)
    with pytest.raises(ValueError, match="rows in"):
        read_bars(tmp_path / "x.parquet")

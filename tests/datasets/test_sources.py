"""Sources, run directory and log: what they give, and what they say when they cannot."""

from __future__ import annotations

import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog, DatasetError

import nqcast.datasets
from nqcast.datasets import (
    AppendOnlyLogDataset,
    ForecastFileDataset,
    RunDirectoryDataset,
    SimulatedMarketDataset,
    TrueQuantilesDataset,
    VendorBarsDataset,
    VerifiedDataset,
)
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate

PREVIEWS = {"TablePreview", "JSONPreview", "ImagePreview", "HTMLPreview"}


def test_missing_bars_are_an_error_at_load_only_and_the_path_counts_from_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dataset = VendorBarsDataset(source="my bars.parquet")
    assert not dataset.exists()
    assert dataset.preview() is None
    with pytest.raises(DatasetError, match=r"my bars\.parquet.*--params bars=FILE.*current folder") as caught:
        dataset.load()
    assert str(tmp_path / "my bars.parquet") in str(caught.value)
    with pytest.raises(DatasetError, match="--params bars=FILE"):
        VendorBarsDataset().load()


def test_a_preview_of_the_users_bars_is_their_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    frame = pd.DataFrame({"ts": pd.date_range("2016-01-04", periods=30, tz="UTC"), "close": range(30)})
    frame.to_parquet("bars.parquet")
    frame.to_csv("bars.csv", index=False)
    for name in ("bars.parquet", "bars.csv"):
        preview = VendorBarsDataset(source=name).preview(nrows=4)
        assert preview["columns"] == ["ts", "close"]
        assert [row[1] for row in preview["data"]] == [0, 1, 2, 3]


@pytest.mark.parametrize("manner", [{}, {"sep": ";", "decimal": ","}, {"sep": ";", "encoding": "utf-8-sig"}])
@pytest.mark.parametrize("first", [1.5e-4, 0.0])
def test_forecasts_in_a_spreadsheets_text_are_those_of_any_other(
    manner: dict[str, str], first: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"ts": ["2016-08-03 14:00"] * 2, "horizon": ["15m", "4h"], "q50": [first, -0.25]})
    text = rows.to_csv(index=False, **manner).replace("15m;0,0\n", "15m;0\n")
    Path("mine.csv").write_text(text, encoding=manner.get("encoding", "utf-8"))
    pd.testing.assert_frame_equal(ForecastFileDataset(source="mine.csv").load(), rows)


@pytest.mark.parametrize("kind", [SimulatedMarketDataset, TrueQuantilesDataset, VendorBarsDataset])
def test_a_source_cannot_be_written(kind: type) -> None:
    with pytest.raises(DatasetError, match="cannot be written"):
        kind().save(pd.DataFrame())


def test_the_simulated_market_is_the_simulation_of_its_settings() -> None:
    short = {"start": "2020-01-06", "sessions": 5, "seed": 3}
    bars = SimulatedMarketDataset(config=short).load()
    pd.testing.assert_frame_equal(bars, simulate(SimulationConfig(**short)))
    assert not bars.equals(SimulatedMarketDataset(config={**short, "seed": 4}).load())
    assert json.loads(SimulatedMarketDataset(config=short).preview()) == short


def test_an_unknown_setting_of_the_simulation_is_named() -> None:
    with pytest.raises(DatasetError, match="sede"):
        SimulatedMarketDataset(config={"sede": 1}).load()


def test_a_run_directory_is_made_and_left_clean(tmp_path: Path) -> None:
    dataset = RunDirectoryDataset(filepath=str(tmp_path / "runs é" / "deep"), min_free_gb=0)
    assert not dataset.exists()
    folder = dataset.load()
    assert folder == tmp_path / "runs é" / "deep"
    assert not list(folder.iterdir())
    with pytest.raises(DatasetError, match="below what load"):
        dataset.save("x")


def test_a_run_directory_that_is_full_unwritable_or_a_file_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DatasetError, match=r"could not be written.*NQCAST_DATA"):
        RunDirectoryDataset(filepath=str(tmp_path / "file")).load()
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=123_000_000))
    with pytest.raises(DatasetError, match=r"1,908\.3 MiB needed, 117\.3 MiB free"):
        RunDirectoryDataset(filepath=str(tmp_path / "runs"), min_free_gb=2).load()


def test_the_log_gives_its_records_in_order(tmp_path: Path) -> None:
    dataset = AppendOnlyLogDataset(filepath=str(tmp_path / "08 é" / "uses.jsonl"))
    assert dataset.load() == []
    records = [{"time": str(i), "hash": "é\n"} for i in range(25)]
    for record in records:
        dataset.save(record)
    assert dataset.load() == records
    assert json.loads(dataset.preview()) == records[-20:]
    with pytest.raises(DatasetError, match="expected one record"):
        dataset.save(records)


def test_a_line_that_a_kill_cut_short_is_left_out_and_the_next_record_is_whole(tmp_path: Path) -> None:
    dataset = AppendOnlyLogDataset(filepath=str(tmp_path / "uses.jsonl"))
    dataset.save({"use": 1})
    path = tmp_path / "uses.jsonl"
    path.write_bytes(path.read_bytes() + b'{"use": "' + b"x" * 10_000)
    assert dataset.load() == [{"use": 1}]
    dataset.save({"use": 2})
    assert dataset.load() == [{"use": 1}, {"use": 2}]


@pytest.mark.parametrize("line", ["nonsense", "[1, 2]"])
def test_a_damaged_line_inside_the_log_is_an_error_with_its_number(line: str, tmp_path: Path) -> None:
    path = tmp_path / "uses.jsonl"
    path.write_text(f'{{"use": 1}}\n{line}\n{{"use": 2}}\n')
    with pytest.raises(DatasetError, match="line 2"):
        AppendOnlyLogDataset(filepath=str(path)).load()


@pytest.mark.parametrize("filepath", ["http://host/f.parquet", "s3://bucket/../f.parquet"])
def test_a_remote_path_is_refused(filepath: str) -> None:
    with pytest.raises(DatasetError, match="expected a local path"):
        VerifiedDataset(filepath=filepath, dataset="pandas.ParquetDataset")


def test_every_dataset_is_found_by_its_catalog_name_and_its_preview_by_kedro_viz() -> None:
    paths = {
        "VendorBarsDataset": "source: x",
        "SimulatedMarketDataset": "config: {}",
        "TrueQuantilesDataset": "config: {}",
        "SymbolFilesDataset": "source: x",
        "ForecastFileDataset": "source: x",
    }
    lines = [f"{n}: {{type: nqcast.datasets.{n}, {paths.get(n, 'filepath: x')}}}" for n in nqcast.datasets.__all__]
    catalog = DataCatalog.from_config(yaml.safe_load("\n".join(lines)))
    for name in nqcast.datasets.__all__:
        dataset = catalog[name]
        assert type(dataset).__name__ == name
        assert isinstance(dataset._describe(), dict)
        dataset.release()
        if hasattr(dataset, "preview"):
            assert inspect.signature(dataset.preview).return_annotation.__name__ in PREVIEWS


def test_the_package_loads_no_heavy_library_until_a_dataset_is_used() -> None:
    code = (
        "import sys, nqcast.datasets\n"
        "heavy = {'pandas', 'pyarrow', 'matplotlib', 'torch', 'mlflow', 'kedro'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "nqcast.datasets.VerifiedDataset, nqcast.datasets.CheckpointDataset\n"
        "heavy = {'pyarrow', 'matplotlib', 'torch', 'mlflow'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": "src"})


def test_an_empty_record_adds_no_line(tmp_path: Path) -> None:
    dataset = AppendOnlyLogDataset(filepath=str(tmp_path / "uses.jsonl"))
    dataset.save({})
    assert not (tmp_path / "uses.jsonl").exists()
    dataset.save({"run": 1})
    dataset.save({})
    assert dataset.load() == [{"run": 1}]

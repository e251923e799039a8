"""Features by symbol: bit-equal to the one-symbol road, in processes and on a Dask cluster; what is done is skipped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError
from tests.kedro_command import kedro, output_of

from nqcast.constants import HORIZONS
from nqcast.data.config import FeaturesConfig
from nqcast.data.features import build_features
from nqcast.datasets import SymbolFilesDataset, VerifiedPartitionsDataset
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.vendor import read_bars
from nqcast.pipelines.train_many import build_symbol_features
from nqcast.symbols.build import tasks_of
from nqcast.symbols.schedule import PartitionsConfig

INGEST, FEATURES = IngestConfig(), FeaturesConfig()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two symbols as parquet and CSV, each a market of its own, and what is no file of bars."""
    folder = tmp_path_factory.mktemp("bars by symbol")
    simulate(SimulationConfig(sessions=3, seed=1)).to_parquet(folder / "NQ.parquet")
    simulate(SimulationConfig(sessions=2, seed=2)).to_csv(folder / "ES.csv.gz", index=False)
    (folder / "README.md").write_text("not bars")
    (folder / ".hidden.parquet").write_text("nor this")
    return folder


def expected(folder: Path, name: str) -> pd.DataFrame:
    return build_features(build_bars(read_bars(folder / name), INGEST).bars, FEATURES)


def run(folder: Path, out: Path, config: PartitionsConfig) -> list[dict[str, object]]:
    """The node as Kedro runs it: partitions are saved as they are yielded; returns the lines of the log."""
    store = VerifiedPartitionsDataset(filepath=str(out))
    files, lines = SymbolFilesDataset(source=str(folder)).load(), []
    for partition, line in build_symbol_features(files, store.load(), INGEST, FEATURES, {}, config, list(HORIZONS)):
        store.save(partition)
        lines.append(line)
    return lines


def by_symbol(out: Path) -> dict[str, pd.DataFrame]:
    loaded = [read() for read in VerifiedPartitionsDataset(filepath=str(out)).load().values()]
    return {part["record"]["symbol"]: part["frame"] for part in loaded}


def assert_equal_to_one_symbol(folder: Path, out: Path) -> None:
    found = by_symbol(out)
    assert sorted(found) == ["ES", "NQ"]
    for symbol, file in (("NQ", "NQ.parquet"), ("ES", "ES.csv.gz")):
        pd.testing.assert_frame_equal(found[symbol], expected(folder, file), check_exact=True)


@pytest.mark.slow
def test_processes_give_the_bits_of_one_symbol_and_what_is_done_is_skipped(folder: Path, tmp_path: Path) -> None:
    first = run(folder, tmp_path, PartitionsConfig(workers=2))
    assert {line["symbol"]: line["status"] for line in first} == {"NQ": "finished", "ES": "finished"}
    assert_equal_to_one_symbol(folder, tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*"))
    assert {line["status"] for line in run(folder, tmp_path, PartitionsConfig(workers=2))} == {"skipped"}
    assert sorted((path, path.stat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@pytest.fixture
def cluster() -> Iterator[str]:
    """Address of a local Dask cluster of two worker processes on loopback, closed afterwards."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, worker_dashboard_address=None
    ) as cluster:
        yield cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bits(folder: Path, cluster: str, tmp_path: Path) -> None:
    lines = run(folder, tmp_path, PartitionsConfig(scheduler=cluster))
    assert {line["status"] for line in lines} == {"finished"}
    assert_equal_to_one_symbol(folder, tmp_path)


@pytest.mark.slow
def test_a_symbol_that_fails_does_not_keep_the_others_from_being_saved(folder: Path, tmp_path: Path) -> None:
    bars, data = tmp_path / "bars", tmp_path / "data"
    bars.mkdir()
    (bars / "NQ.parquet").write_bytes((folder / "NQ.parquet").read_bytes())
    (bars / "BAD.csv").write_text("ts,open\n2016-01-04,1\n")
    chosen = ("run", "--pipelines", "features_many", "--params", f"bars={bars},partitions.workers=1")
    text = output_of(kedro(*chosen, data=data), fails=True)
    assert "found 1 that failed" in text and "BAD:" in text
    assert list(by_symbol(data / "04_feature" / "symbols")) == ["NQ"]
    log = (data / "04_feature" / "symbol_log.jsonl").read_text().splitlines()
    assert {(line["symbol"], line["status"]) for line in map(json.loads, log)} == {
        ("NQ", "finished"),
        ("BAD", "failed"),
    }


def test_the_name_of_a_partition_changes_with_the_file_and_with_every_setting(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "NQ.parquet"
    copy.write_bytes((folder / "NQ.parquet").read_bytes())

    def name(ingest: IngestConfig = INGEST, features: FeaturesConfig = FEATURES) -> str:
        return tasks_of({"NQ": copy}, ingest, features)[0].partition

    plain = name()
    assert plain == tasks_of({"NQ": folder / "NQ.parquet"}, INGEST, FEATURES)[0].partition
    names = {plain, name(IngestConfig(stale_bars=31)), name(features=FeaturesConfig(tick=0.5))}
    copy.write_bytes(copy.read_bytes() + b"\0")
    assert len(names | {name()}) == 4


def test_a_folder_that_is_none_or_names_a_symbol_twice_is_refused(folder: Path, tmp_path: Path) -> None:
    assert list(SymbolFilesDataset(source=str(folder)).load()) == ["ES", "NQ"]
    for source, message in ((tmp_path / "no", "found .*no: give one"), (None, "found none"), (tmp_path, "found none")):
        with pytest.raises(DatasetError, match=message):
            SymbolFilesDataset(source=source and str(source)).load()
    for name in ("NQ.csv", "NQ.parquet"):
        (tmp_path / name).touch()
    with pytest.raises(DatasetError, match=r"found NQ\.csv and NQ\.parquet"):
        SymbolFilesDataset(source=str(tmp_path)).load()

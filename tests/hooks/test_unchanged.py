"""Bars and features are kept while file, code and parameters are the same, and made anew for any other reason."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import node, pipeline
from kedro_datasets.pandas import ParquetDataset
from tests.kedro_command import PROJECT, newest

from nqcast.datasets import VerifiedDataset
from nqcast.hooks import unchanged
from nqcast.hooks.unchanged import program
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.verified import replace_verified_file

pytestmark = pytest.mark.slow

Run = Callable[..., set[str]]
"""A run of ingest and features with these parameters; gives the names of what it kept."""


def kept_by(data: Path, parameters: dict[str, object], chosen: list[str], code: str | None) -> set[str]:
    """A run of the project in this process, whose code may have another name than its own."""
    from kedro.framework.project import settings
    from kedro.framework.startup import bootstrap_project

    unchanged.program = program if code is None else lambda: code  # type: ignore[assignment]
    os.environ |= {"NQCAST_DATA": str(data), "NQCAST_LOCAL": "base"}
    bootstrap_project(PROJECT)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("nqcast.hooks.unchanged").addHandler(handler)
    bars = {"bars": str(data / "bars.parquet")} if "ingest" in chosen else {}
    parameters = {**bars, "tracking": {"enabled": False}, **parameters}
    to_nodes = ["split_dataset"] if "train" in chosen else []
    with settings.SESSION_CLASS.create(PROJECT, env="nq", runtime_params=parameters) as session:
        session.run(pipeline_names=chosen, to_nodes=to_nodes)
    return {line.split(" as of ")[0] for line in said if line.endswith("unchanged: kept")}


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unchanged")
    simulate(SimulationConfig(sessions=12, seed=7)).to_parquet(folder / "bars.parquet")
    return folder


@pytest.fixture(scope="module")
def run(process: ProcessPoolExecutor, data: Path) -> Run:
    def run(chosen: str = "ingest,features", code: str | None = None, **parameters: object) -> set[str]:
        return process.submit(kept_by, data, parameters, chosen.split(","), code).result(120)

    assert run() == set()
    return run


def features(data: Path) -> Path:
    return next(newest(data / "nq" / "04_feature" / "features.parquet").glob("*.parquet"))


def bars(data: Path) -> Path:
    return data / "nq" / "02_intermediate" / "bars.parquet"


@pytest.fixture
def own_feature() -> Iterator[str]:
    """A file inside the project, as own features must be."""
    file = PROJECT / "tests" / "hooks" / "an_own_feature.py"
    file.write_text("def flat(bars):\n    return [0.0] * len(bars)\n")
    yield str(file.relative_to(PROJECT))
    file.unlink()


@pytest.fixture(autouse=True)
def settled(run: Run) -> None:
    """Every test begins where both were made of the plain parameters and the file that is there."""
    run()


def test_nothing_is_made_again_of_the_same(run: Run, data: Path) -> None:
    before = features(data), features(data).stat().st_mtime_ns, bars(data).stat().st_mtime_ns
    assert run() == {"ingest", "features"}
    assert run("features") == {"features"}
    assert run("ingest") == {"ingest"}
    assert (features(data), features(data).stat().st_mtime_ns, bars(data).stat().st_mtime_ns) == before


def test_a_run_that_keeps_its_bars_is_tracked_as_made_from_the_same_file(run: Run, data: Path) -> None:
    """The store does not answer, so that all that was to be sent lies in the spool."""
    tracking, told = {"uri": "http://127.0.0.1:9", "final_wait": 0.0, "request_timeout": 0.1}, []
    for rebuild in (True, False):
        made = run(rebuild=rebuild, tracking=tracking)
        [spool] = (data / "nq" / "09_tracking" / "spool").glob("*/news.jsonl")
        lines = [json.loads(line) for line in spool.read_text().splitlines()]
        [dataset] = [line for line in lines if line["kind"] == "dataset"]
        tags = {name: value for line in lines if line["kind"] == "tags" for name, value in line["values"].items()}
        about = tags["mlflow.note.content"].split(" on ")[1]
        told.append((dataset, about, tags["data.source"], tags["data.raw_bars.sha256"], made))
        shutil.rmtree(spool.parent)
    assert told[0][:-1] == told[1][:-1] and [made for *_, made in told] == [set(), {"ingest", "features"}]
    assert told[1][0]["digest"] == told[1][3][:16] and told[1][0]["profile"]["rows"] > 10_000


def test_what_is_made_anew_is_what_was_kept(run: Run, data: Path) -> None:
    before, table = features(data), pd.read_parquet(features(data))
    assert run(rebuild=True) == set()
    assert features(data) != before
    pd.testing.assert_frame_equal(pd.read_parquet(features(data)), table, check_exact=True)


def test_a_parameter_counts_where_it_is_read(run: Run) -> None:
    split = {"warmup_bars": 300, "train": 0.4, "validation": 0.3, "test": 0.3}
    assert run("ingest,features,train", split=split) == {"ingest", "features"}
    assert run(horizons="15m+close") == {"ingest"}
    assert run(ingest={"level_stretch_days": 7.0}, horizons="15m+close") == set()
    assert run(features={"volume": False}) == set()  # ingest asks the features whether they want volume


def test_other_bytes_of_the_same_bars_are_another_file(run: Run, data: Path) -> None:
    file = data / "bars.parquet"
    before = file.read_bytes()
    pd.read_parquet(file).to_parquet(file, compression="gzip")
    assert run() == set()
    file.write_bytes(before)
    assert run() == set()
    file.rename(data / "others.parquet")
    assert run(bars=str(data / "others.parquet")) == set()  # reports name the file
    (data / "others.parquet").rename(file)


def test_what_is_damaged_lost_or_replaced_is_made_anew(run: Run, data: Path) -> None:
    features(data).write_bytes(features(data).read_bytes()[:-1] + b"?")
    assert run() == {"ingest"}
    bars(data).write_bytes(bars(data).read_bytes()[:-1] + b"?")
    assert run() == set()
    replace_verified_file(bars(data), lambda path: pd.read_parquet(features(data)).to_parquet(path))  # as `update` does
    assert run() == set()
    bars(data).with_name("quarantine.parquet").unlink()
    assert run() == set()
    bars(data).with_name("made_of.json").write_bytes(b"{}")
    assert run() == set()
    assert run() == {"ingest", "features"}


def test_rows_that_lie_after_now_may_be_taken_later(run: Run, data: Path) -> None:
    ahead = pd.read_parquet(data / "bars.parquet")
    ahead.loc[ahead.index[-1], "ts"] = pd.Timestamp.now("UTC").floor("min") + pd.Timedelta(hours=1)
    ahead.to_parquet(data / "ahead.parquet")
    for _ in range(2):
        assert run(bars=str(data / "ahead.parquet")) == set()


def test_an_entry_that_cannot_be_verified_or_named_is_made_anew(tmp_path: Path) -> None:
    """A plain dataset of the user's own in the place of ours, and a table that a hook has put there."""
    plain = {"features": ParquetDataset(filepath=str(tmp_path / "features.parquet"))}
    table = MemoryDataset(pd.DataFrame({"close": range(100)}))
    chain = pipeline([node(lambda bars: bars, "bars", "features", name="make", tags="features")])
    catalog = DataCatalog({**plain, "bars": table, "made_of": MemoryDataset({})})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unchanged, "pipelines", {"features": chain, "ingest": chain})
        for _ in range(2):
            kept = unchanged.Kept(chain, catalog)
            assert kept.rest().nodes == chain.nodes
            kept.before_dataset_loaded(chain.nodes[0])
            kept.after_dataset_saved("features", chain.nodes[0])
        verified = VerifiedDataset(dataset={"type": "pandas.ParquetDataset"}, filepath=str(tmp_path / "b.parquet"))
        verified.save(table.load())
        catalog["bars"] = verified
        for _ in range(2):
            kept = unchanged.Kept(chain, catalog)
            assert kept.rest().nodes == chain.nodes
            kept.before_dataset_loaded(chain.nodes[0])
            kept.after_dataset_saved("features", chain.nodes[0])


def test_features_of_ones_own_are_code_that_may_read_anything(run: Run, own_feature: str) -> None:
    for _ in range(2):
        assert run(features={"own": own_feature}) == set()


def test_other_code_makes_both_anew(run: Run) -> None:
    assert run(code="another version") == set()
    assert run(code="another version") == {"ingest", "features"}


def test_code_and_libraries_have_one_name(tmp_path: Path) -> None:
    root, place = tmp_path / "package", tmp_path / "libraries"
    (root / "market").mkdir(parents=True)
    (place / "numpy-2.2.0.dist-info").mkdir(parents=True)
    (root / "market" / "grid.py").write_text("one = 1\n")

    def name() -> str:
        return program.__wrapped__(root, (str(place),))

    before = name()
    (root / "market" / "__pycache__").mkdir()
    (root / "market" / "__pycache__" / "encoder.so").write_text("built by the first run")
    assert name() == before
    (root / "market" / "grid.py").write_text("one = 2\n")
    changed = name()
    (place / "numpy-2.2.0.dist-info").rename(place / "numpy-2.2.1.dist-info")
    assert len({before, changed, name()}) == 3

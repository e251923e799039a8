"""One run at a time writes to a data folder; reading is free, and what cannot work is refused by name."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kedro_command import kedro, output_of

HOLD = (
    "import sys; from nqcast.storage.lock import DirectoryLock; from pathlib import Path;"
    "lock = DirectoryLock(Path(sys.argv[1])).acquire(); print('held', flush=True); sys.stdin.read()"
)

pytestmark = pytest.mark.slow


@pytest.fixture
def held(tmp_path: Path) -> Iterator[int]:
    """A data folder that another process, whose number is given, works in."""
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        yield holder.pid
        holder.communicate("")


def test_a_second_run_in_a_data_folder_is_told_who_holds_it_and_reading_stays_free(held: int, tmp_path: Path) -> None:
    refused = kedro("run", "--env", "test", "--pipelines", "ingest", data=tmp_path)
    told = " ".join(output_of(refused, fails=True).split())
    assert f"held by process {held} on host" in told and "NQCAST_DATA" in told
    assert "Traceback" not in told and sorted(path.name for path in tmp_path.iterdir()) == [".lock"]
    assert "bars" in output_of(kedro("catalog", "describe-datasets", "--env", "test", data=tmp_path))


def test_the_parallel_runner_is_refused_by_name_in_one_line(tmp_path: Path) -> None:
    done = kedro("run", "--env", "test", "--pipelines", "ingest", "--runner", "ParallelRunner", data=tmp_path)
    told = output_of(done, fails=True)
    assert "found the ParallelRunner" in told and "Traceback" not in told
    assert not list(tmp_path.rglob("*.parquet"))


def test_a_clock_set_back_trains_on_what_this_run_has_made(toy_features: Path, tmp_path: Path) -> None:
    """The next run's stamp is older than the newest version: another version of the features, from another clock."""
    shutil.copytree(toy_features, tmp_path, dirs_exist_ok=True)
    root = tmp_path / "04_feature" / "features.parquet"
    first = next(root.iterdir())
    ahead = first.rename(root / "2099-01-01T00.00.00.000Z")
    quick = "rebuild=true,train.epochs=1,train.windows_per_epoch=256"
    anew = ("--pipelines", "ingest,features,train", "--params", quick)
    output_of(kedro("run", "--env", "test", *anew, data=tmp_path))
    versions = sorted(path.name for path in root.iterdir())
    assert versions == [ahead.name, "2099-01-01T00.00.00.001Z"]

"""The store beside a spool: made whole or not at all, by many at once, at any path, and at home where it is copied."""

from __future__ import annotations

import contextlib
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nqcast.tracking import store as stores
from nqcast.tracking.replay import main
from nqcast.tracking.spool import Line, Spool
from nqcast.tracking.store import DATABASE, MlflowStore, destination, ready_database

START: Line = {"kind": "start", "name": "n", "experiment": "e", "tags": {}, "time": 1, "uri": ""}
OPEN = "from nqcast.tracking.store import *; MlflowStore(destination(Path(sys.argv[1])), 5.0)"


def opening(folder: Path) -> subprocess.Popen[bytes]:
    """A process that opens the folder's store."""
    code = f"import sys; from pathlib import Path; {OPEN}"
    return subprocess.Popen([sys.executable, "-W", "ignore", "-c", code, str(folder)], stderr=subprocess.PIPE)


def whole(folder: Path) -> None:
    """Proves that a run can be tracked there, and that nothing half done lies around."""
    MlflowStore(destination(folder), 5.0).ensure_run(START, "key")
    assert not list(folder.glob(".mlflow.db.making*"))


def make_quickly(uri: str) -> None:
    """A store that is made in two steps; the second fails where the first was done before."""
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("create table runs (id)")
        database.execute("create table experiments (artifact_location)")


def test_a_database_that_was_cut_short_is_moved_aside_by_name_and_one_with_runs_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("create table runs (id)")
    ready_database(tmp_path / "artifacts", make_quickly)
    assert "half made (table runs already exists): moved to mlflow.db.half_made_1" in caplog.text
    assert (tmp_path / "mlflow.db.half_made_1").exists()
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as database, database:
        database.execute("insert into runs values (1)")
    ready_database(tmp_path / "artifacts", make_quickly)
    assert len(list(tmp_path.glob("mlflow.db*"))) == 2


def test_a_kill_while_it_is_made_leaves_none_and_the_next_one_makes_it(tmp_path: Path) -> None:
    def dies(uri: str) -> None:
        make_quickly(uri)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ready_database(tmp_path / "artifacts", dies)
    assert not (tmp_path / DATABASE).exists()
    ready_database(tmp_path / "artifacts", make_quickly)
    assert sorted(path.name for path in tmp_path.iterdir()) == [DATABASE]


@pytest.mark.slow
def test_two_first_runs_at_once_and_a_killed_one_before_them_end_in_one_whole_store(tmp_path: Path) -> None:
    killed = opening(tmp_path)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob(".mlflow.db.making*")):
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    both = [opening(tmp_path) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors.decode()[-2000:]
    whole(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["what? yes%41&no", "a#b;c é"])
def test_a_folder_of_any_name_holds_its_store_and_a_copy_of_it_works_on_its_own(tmp_path: Path, name: str) -> None:
    """Artifacts, runs and model versions of the copy are the copy's; the original keeps its own."""
    original, file = tmp_path / name / "09_tracking", tmp_path / "scores.json"
    file.write_text("{}")
    artifact: Line = {"kind": "artifact", "file": "scores.json"}
    whole(original)
    store = MlflowStore(destination(original), 5.0)
    run = store.ensure_run(START, "key")
    store.send(run, [artifact], tmp_path)
    store._client.create_registered_model("m")
    store._client.create_model_version("m", f"{store._client.get_run(run).info.artifact_uri}/model", run)
    assert (original / DATABASE).exists() and not list(tmp_path.glob("*.db"))
    waiting = Spool.create(original / "spool", "waits")
    waiting.append(**START)  # type: ignore[misc]
    waiting.append("metrics", step=0, time=1, values={"loss": 1.0})
    waiting.append("end", status="FINISHED", time=2)
    waiting.unlock()

    copied = shutil.copytree(original.parent, tmp_path / f"copy of {name}") / "09_tracking"
    shutil.rmtree(original)
    assert main(["--folder", str(copied)]) == 0
    copy = MlflowStore(destination(copied), 5.0)
    assert copy.ensure_run(START, "key") == run
    found = copy._client.search_runs([copy._client.get_experiment_by_name("e").experiment_id])
    assert len(found) == 2
    assert {Path(one.info.artifact_uri.removeprefix("file://")).parts[-4] for one in found} == {"09_tracking"}
    assert [item.path for item in copy._client.list_artifacts(run)] == ["scores.json"]
    assert copy._client.get_model_version("m", "1").source.startswith((copied / "artifacts").as_uri())
    copy.send(copy.ensure_run(START, "another"), [artifact], tmp_path)
    assert len(list(copied.rglob("scores.json"))) == 2
    assert not original.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"copy of {name}", "scores.json"])


def test_places_that_only_look_like_a_tracking_folders_are_left_alone(tmp_path: Path) -> None:
    here, old = tmp_path / "09_tracking" / "artifacts", "file:///old/09_tracking/artifacts"
    others = ["file:///nas/artifacts", "s3://bucket/09_tracking/artifacts", f"{old}_2", "mlruns/0"]
    here.parent.mkdir()
    with contextlib.closing(sqlite3.connect(here.with_name(DATABASE))) as database, database:
        for table, column in stores._PLACES:
            with contextlib.suppress(sqlite3.OperationalError):
                database.execute(f"create table {table} (source, storage_location, artifact_uri, artifact_location)")
            database.executemany(f"insert into {table} ({column}) values (?)", [(place,) for place in (old, *others)])
            database.execute(f"insert into {table} ({column}) values (?)", (f"{old}/1/x",))
    ready_database(here, lambda uri: None)
    with contextlib.closing(sqlite3.connect(here.with_name(DATABASE))) as database:
        for table, column in stores._PLACES:
            found = [place for (place,) in database.execute(f"select {column} from {table} where {column} is not null")]
            assert sorted(found) == sorted([here.as_uri(), f"{here.as_uri()}/1/x", *others]), table

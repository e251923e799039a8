"""The guarantee of the local disk in an object store: the latest is the newest that verifies, whoever is killed."""

from __future__ import annotations

import atexit
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError
from tests.faults.kedro_process import KedroProcess
from tests.kedro_command import kedro, output_of
from tests.object_store import bucket, free_ports, server

import nqcast
from nqcast.datasets import AppendOnlyLogDataset, RunDirectoryDataset, VerifiedPartitionsDataset
from nqcast.storage.append_only import append_record, read_records
from nqcast.storage.errors import StorageError
from nqcast.storage.lock import DirectoryBusyError, StoreLock
from nqcast.storage.place import StorePath, place, working
from nqcast.storage.verified import (
    VerificationError,
    content_hash,
    manifest_of,
    replace_verified_file,
    sha256_of,
    verify,
    write_folder,
)

__all__ = ["bucket", "server"]

pytestmark = pytest.mark.xdist_group("object_store")
ENTRIES = ("versioned_frame", "frame", "versioned_document", "document", "text", "page", "checkpoint")
OLD, NEW = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"

# Saves one frame; says when it comes to the manifest, and waits there for its end.
SAVER = """
import sys, time, yaml
from kedro.io import DataCatalog
import pandas as pd
from nqcast.storage import place
put, stop = place.StorePath.write_bytes, int(sys.argv[4])
seen = []
def write(self, content, **how):
    seen.append(self.name)
    if len(seen) == stop:
        print("here", seen, flush=True)
        time.sleep(60)
    return put(self, content, **how)
place.StorePath.write_bytes = write
entry = {"type": "nqcast.datasets.VerifiedDataset", "dataset": "pandas.ParquetDataset", "filepath": sys.argv[1]}
if sys.argv[2]:
    entry["versioned"] = True
catalog = DataCatalog.from_config({"it": entry}, save_version=sys.argv[2] or None)
print("ready", flush=True)
sys.stdin.readline()
catalog.save("it", pd.DataFrame({"by": [sys.argv[3]] * 1000}))
"""


def saver(path: str, version: str, name: str, stop: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SAVER, path, version, name, str(stop)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


def kill_at(stop: int, path: str, version: str = "") -> None:
    """Kill a process when it is about to put its object of this number."""
    with saver(path, version, "the killed one", stop) as process:
        assert process.stdin and process.stdout
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ready\n"
        assert process.stdout.readline().startswith("here"), process.communicate()
        os.kill(process.pid, signal.SIGKILL)


def files_below(folder: StorePath) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for one in folder.iterdir():
        found |= {f"{one.name}/{name}": content for name, content in files_below(one).items()}
        if one.is_file():
            found[one.name] = one.read_bytes()
    return found


def test_what_is_saved_is_read_back_and_is_to_the_byte_what_a_disk_would_hold(
    bucket: str, tmp_path: Path, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    for data in (bucket, tmp_path):
        for seed, version in enumerate((OLD, NEW)):
            catalog = catalog_in(data, version)
            for name in ENTRIES:
                catalog.save(name, artifact(name, seed))
        for name in ENTRIES:
            assert_same(catalog_in(data, "2026-01-03T00.00.00.000Z").load(name), artifact(name, 1))
    assert_same(catalog_in(bucket, NEW, {"page": OLD}).load("page"), artifact("page", 0))
    local = {p.relative_to(tmp_path).as_posix(): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert files_below(StorePath(bucket)) == local


@pytest.mark.parametrize("harm", ["cut short", "no manifest", "no payload", "garbled manifest"])
def test_a_damaged_newest_version_gives_way_to_the_newest_that_verifies(
    harm: str,
    bucket: str,
    catalog_in: Callable,
    artifact: Callable,
    assert_same: Callable,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for name in ("versioned_frame", "checkpoint"):
        for seed, version in enumerate((OLD, NEW)):
            catalog_in(bucket, version).save(name, artifact(name, seed))
        path = place(catalog_in(bucket, NEW)[name]._get_load_path())
        payload, manifest = path, manifest_of(path)
        if name == "checkpoint":
            payload, manifest = path / "model.safetensors", path / "manifest.sha256"
        if harm in ("cut short", "garbled manifest"):
            one = payload if harm == "cut short" else manifest
            one.write_bytes(one.read_bytes()[:-7])
        else:
            (manifest if harm == "no manifest" else payload).unlink()
        assert_same(catalog_in(bucket, "2026-01-03T00.00.00.000Z").load(name), artifact(name, 0))
        if path.exists():
            with pytest.raises(DatasetError, match="does not verify"):
                catalog_in(bucket, NEW, {name: NEW}).load(name)
            assert f"version {NEW} skipped" in caplog.text
        assert catalog_in(bucket, OLD)[name].resolve_save_version() > (NEW if path.exists() else OLD)


def test_a_save_killed_between_payload_and_manifest_leaves_the_one_before(
    bucket: str, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    catalog_in(bucket, OLD).save("versioned_frame", artifact("versioned_frame", 0))
    path = f"{bucket}/frames/features.parquet"
    kill_at(2, path, NEW)
    assert set(files_below(StorePath(path) / NEW)) == {"features.parquet"}
    assert_same(catalog_in(bucket, NEW).load("versioned_frame"), artifact("versioned_frame", 0))
    after = catalog_in(bucket, NEW)  # the next save of the same name is moved past what lies there
    after.save("versioned_frame", artifact("versioned_frame", 2))
    assert_same(catalog_in(bucket, NEW).load("versioned_frame"), artifact("versioned_frame", 2))


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_a_replacement_killed_at_any_object_leaves_the_old_or_the_new_and_both_verify(
    stop: int, bucket: str, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    catalog_in(bucket, OLD).save("frame", artifact("frame", 0))
    kill_at(stop, f"{bucket}/bars.parquet")
    found = catalog_in(bucket, OLD).load("frame")
    if stop < 3:  # before the payload
        assert_same(found, artifact("frame", 0))
    else:
        assert set(found["by"]) == {"the killed one"}


def test_of_two_processes_that_save_one_version_at_once_one_is_refused_and_none_is_mixed(bucket: str) -> None:
    path = f"{bucket}/both.parquet"
    ended: list[tuple[subprocess.Popen[str], tuple[str, str]]] = []
    both = [saver(path, NEW, name) for name in ("first", "second")]
    for one in both:
        assert one.stdout and one.stdout.readline() == "ready\n"
    threads = [threading.Thread(target=lambda one=one: ended.append((one, one.communicate("\n")))) for one in both]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    whole = [one for one in StorePath(path).iterdir() if verify(one / "both.parquet.sha256") is None]
    refused = [told for one, (_, told) in ended if one.returncode != 0]
    assert len(whole) + len(refused) == 2 and len(whole) > 0  # a slow second one is moved past the first
    assert all("must not exist" in told or "exists already" in told for told in refused)


def test_a_version_that_another_writer_has_begun_is_refused(bucket: str) -> None:
    folder = StorePath(bucket) / "it" / NEW
    (folder / "it").write_bytes(b"of another writer, which is not done")
    with pytest.raises(StorageError, match="exists already: save under another version"):
        write_folder(folder, {"it": b"mine"}, "it.sha256")
    assert files_below(folder) == {"it": b"of another writer, which is not done"}


def test_a_store_that_does_not_answer_is_not_taken_for_an_older_version(
    bucket: str, catalog_in: Callable, artifact: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed, version in enumerate((OLD, NEW)):
        catalog_in(bucket, version).save("page", artifact("page", seed))
    catalog = catalog_in(bucket, NEW, {"page": NEW})
    [port] = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    for one in (catalog, catalog_in(bucket, NEW)):
        with pytest.raises(DatasetError, match="nothing that answers: check AWS_ENDPOINT_URL"):
            one.load("page")
    with pytest.raises(StorageError):  # and no VerificationError, by which a version is passed over
        verify(StorePath(bucket) / "any.sha256")
    assert not issubclass(StorageError, VerificationError)


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"AWS_ACCESS_KEY_ID": "another"}, "these credentials refused"),
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "these credentials refused"),
        ({"AWS_ACCESS_KEY_ID": ""}, "found none: set AWS_ACCESS_KEY_ID"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, "nothing that answers"),
    ],
)
def test_what_is_wrong_with_the_way_to_the_store_is_one_line(
    variables: dict[str, str], words: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    for ask in (lambda: StorePath(bucket).write_bytes(b""), lambda: StorePath(bucket).exists()):
        with pytest.raises((StorageError, ValueError), match=words) as told:
            ask()
        assert "\n" not in str(told.value) and os.environ["AWS_SECRET_ACCESS_KEY"] not in str(told.value)


def test_a_bucket_that_is_not_there_is_said_and_an_empty_place_is_empty(bucket: str) -> None:
    assert list(StorePath(f"{bucket}/nothing").iterdir()) == [] and not StorePath(f"{bucket}/nothing").is_dir()
    with pytest.raises(StorageError, match="found no bucket of that name: make it, or correct the name"):
        list(StorePath("s3://another/nothing").iterdir())


def test_a_log_keeps_every_record_in_order_and_partitions_are_whole_or_left_out(
    bucket: str, caplog: pytest.LogCaptureFixture
) -> None:
    log = AppendOnlyLogDataset(filepath=f"{bucket}/uses.jsonl")
    assert log.load() == [] and not log.exists()
    for number in range(3):
        log.save({"use": number})
    assert log.load() == [{"use": 0}, {"use": 1}, {"use": 2}]
    assert {json.loads(one.read_bytes())["use"] for one in StorePath(f"{bucket}/uses.jsonl").iterdir()} == {0, 1, 2}
    parts = VerifiedPartitionsDataset(filepath=f"{bucket}/folds")
    assert parts.load() == {}
    parts.save({name: {"frame": pd.DataFrame({"a": [1.0]}), "record": {"name": name}} for name in ("one", "two")})
    with pytest.raises(DatasetError, match="expected a new partition"):
        parts.save({"one": {"frame": pd.DataFrame(), "record": {}}})
    (StorePath(bucket) / "folds" / "one" / "record.json").write_bytes(b"{")
    assert list(parts.load()) == ["two"] and "partition one is left out" in caplog.text
    parts.save({"one": {"frame": pd.DataFrame({"a": [2.0]}), "record": {"name": "again"}}})
    assert parts.load()["one"]()["record"] == {"name": "again"} and len(parts.load()) == 2


def test_a_log_that_is_moved_between_disk_and_store_is_read_whole_and_goes_on(bucket: str, tmp_path: Path) -> None:
    uses = [{"use": number} for number in range(4)]
    local, stored = tmp_path / "uses.jsonl", StorePath(bucket) / "uses.jsonl"
    for use in uses[:2]:
        append_record(local, use)
    stored.write_bytes(local.read_bytes())  # as a sync puts it: one object at the very name
    assert read_records(stored) == uses[:2]
    for use in uses[2:]:
        append_record(stored, use)
    assert read_records(stored) == uses
    stored.rename(stored / "0.json")  # a disk does not hold both
    back = tmp_path / "back" / "uses.jsonl"
    back.mkdir(parents=True)
    for name, content in files_below(stored).items():
        (back / name).write_bytes(content)
    append_record(back, {"use": 4})
    assert read_records(back) == [*uses, {"use": 4}] and len(list(back.iterdir())) == 4


def test_an_object_of_a_log_that_is_no_record_is_an_error_that_names_it(bucket: str) -> None:
    (StorePath(bucket) / "uses.jsonl").write_bytes(b'{"use": 0}\nnonsense\n')
    with pytest.raises(ValueError, match=r"line 2 of s3://.+/uses\.jsonl,"):
        read_records(StorePath(bucket) / "uses.jsonl")


def test_a_replaced_file_is_never_seen_beside_a_manifest_that_refuses_it(bucket: str) -> None:
    path, stop = StorePath(bucket) / "it.json", threading.Event()
    replace_verified_file(path, b"0")

    def write() -> None:
        for number in range(60):
            replace_verified_file(path, str(number).encode())
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    looks = 0
    while not stop.is_set():
        verify(manifest_of(path))
        looks += 1
    writer.join()
    assert looks and path.read_bytes() == b"59"


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_of_two_writers_of_one_file_the_last_to_look_names_the_file_that_is_there(
    stop: int, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one writes while the first one stands before one of its three objects, and is itself cut off there."""
    path, put, seen = StorePath(bucket) / "it.json", StorePath.write_bytes, []
    replace_verified_file(path, b"old")

    def write(self: StorePath, content: bytes, *, create: bool = False) -> str:
        seen.append(self.name)
        if len(seen) == stop:
            replace_verified_file(path, b"second")
        return put(self, content, create=create)

    monkeypatch.setattr(StorePath, "write_bytes", write)
    replace_verified_file(path, b"first")
    verify(manifest_of(path))
    assert path.read_bytes() == (b"second" if stop == 3 else b"first")
    assert content_hash(manifest_of(path)) == sha256_of(path) and len(manifest_of(path).read_bytes().splitlines()) == 1


def test_a_place_in_a_store_is_one_runs_at_a_time_and_a_killed_ones_folder_takes_it_over(
    bucket: str, tmp_path: Path
) -> None:
    place, one, other = StorePath(bucket), tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    held = StoreLock(place, one, "wait for that run").acquire()
    told = rf"^expected {re.escape(bucket)} to be free, found it held by process {os.getpid()} on host .*, which works "
    told += r"in another folder; wait for that run; where that process is dead, remove s3://.*/\.held$"
    with pytest.raises(DirectoryBusyError, match=told):
        StoreLock(place, other, "wait for that run").acquire()
    held.release()
    (place / ".lock").write_bytes(b"")  # of a disk's folder that was moved here
    with StoreLock(place, other, ""):
        assert (place / ".held").exists()
    assert not (place / ".held").exists()
    atexit.unregister(StoreLock(place, one, "").acquire().release)  # it is killed
    killed = json.loads((place / ".held").read_bytes())
    (place / ".held").write_bytes(json.dumps({**killed, "pid": 0}).encode())
    with StoreLock(place, one, ""), pytest.raises(DirectoryBusyError, match=f"held by process {os.getpid()} "):
        StoreLock(place, other, "").acquire()
    StoreLock(place, other, "").acquire().release()


def test_a_place_that_is_given_back_while_its_holder_is_asked_for_is_taken(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, one, other = StorePath(bucket), tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    held, read = StoreLock(place, one, "").acquire(), StorePath.read_bytes

    def late(self: StorePath) -> bytes:
        held.release()
        return read(self)

    monkeypatch.setattr(StorePath, "read_bytes", late)
    with StoreLock(place, other, ""):
        assert json.loads(read(place / ".held"))["by"] == (other / ".name").read_text()


def test_a_folders_name_that_was_cut_short_is_made_anew(bucket: str, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for folder in (one, other):
        folder.mkdir()
        (folder / ".name").write_text("")
    with StoreLock(StorePath(bucket), one, ""), pytest.raises(DirectoryBusyError, match="works in another folder"):
        StoreLock(StorePath(bucket), other, "").acquire()


def test_the_lock_of_a_store_is_given_back_by_its_holder_only_and_by_a_process_that_ends(
    bucket: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place, one, other = StorePath(bucket), tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    removed = StoreLock(place, one, "").acquire()
    (place / ".held").unlink()
    with StoreLock(place, other, ""):
        removed.release()
        assert (place / ".held").exists()
    removed.acquire()
    (place / ".held").unlink()
    removed.release()
    assert "was removed while this run went on" in caplog.text
    code = "import sys; from pathlib import Path; from nqcast.storage.lock import StoreLock as L, StorePath as P;"
    code += "L(P(sys.argv[1]), Path(sys.argv[2]), '').acquire(); raise KeyboardInterrupt"
    done = subprocess.run([sys.executable, "-c", code, bucket, one], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr and not (place / ".held").exists(), done.stderr


@pytest.mark.slow
def test_of_two_runs_at_once_into_one_store_one_is_refused_in_one_line_and_every_layer_is_whole(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for work in ("one", "other"):
        monkeypatch.setenv("NQCAST_WORK", str(tmp_path / work))
        runs.append(KedroProcess("run", "--env", "test", "--pipelines", "ingest,features", data=bucket))
    statuses = [run.end(timeout=200)[0] for run in runs]
    assert 0 in statuses
    for run, status in zip(runs, statuses, strict=True):
        text = " ".join(run.output.split())
        assert status == 0 or f"error: expected {bucket} to be free, found it held by process" in text
        assert "Traceback" not in text
    files = files_below(StorePath(bucket))
    manifests = [name for name in files if name.endswith(".sha256")]
    assert len(manifests) > 5 and ".held" not in files
    for name in manifests:
        verify(StorePath(bucket) / name)


def test_what_a_run_works_in_is_local(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NQCAST_DATA", "s3://bucket/nqcast/")
    assert working(place("s3://bucket/nqcast/nq")) == Path("data/nq")
    monkeypatch.setenv("NQCAST_WORK", str(tmp_path))
    assert RunDirectoryDataset(filepath="s3://bucket/nqcast/nq/06_models/runs", min_free_gb=0).load() == (
        tmp_path / "nq" / "06_models" / "runs"
    )
    with pytest.raises(DatasetError, match="expected a local path, or a place below NQCAST_DATA"):
        RunDirectoryDataset(filepath="s3://another/06_models/runs")
    monkeypatch.setenv("NQCAST_DATA", str(tmp_path / "own"))
    assert working(place(str(tmp_path / "own"))) == tmp_path / "own"


@pytest.mark.slow
def test_a_run_writes_to_the_store_and_another_machine_forecasts_from_it(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second command has a working folder of its own, as another machine would: all it has is the store."""
    monkeypatch.setenv("NQCAST_WORK", str(tmp_path / "one"))
    short = "train.epochs=1,train.windows_per_epoch=256,evaluate.explain_anchors=4"
    run = output_of(kedro("run", "--env", "test", "--params", short, data=bucket))
    assert f"open {bucket}/08_reporting/report.html" in run
    assert "Unable to get file size" not in run
    layers = {one.name for one in StorePath(bucket).iterdir()}
    assert {"04_feature", "05_model_input", "06_models", "07_model_output", "08_reporting"} <= layers
    assert {one.name for one in (tmp_path / "one").iterdir()} == {".lock", ".name", "06_models", "09_tracking"}
    monkeypatch.setenv("NQCAST_WORK", str(tmp_path / "other"))
    forecast = output_of(kedro("run", "--env", "test", "--pipelines", "forecast", data=bucket))
    assert f"open {bucket}/08_reporting/forecast.html" in forecast
    forecaster = nqcast.load(f"{bucket}/06_models/checkpoint")
    assert forecaster.calibration is not None


@pytest.mark.slow
def test_a_run_whose_store_is_down_ends_in_one_line_before_its_first_node(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [port] = free_ports(1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("NQCAST_WORK", str(tmp_path))
    told = output_of(kedro("run", "--env", "test", "--pipelines", "ingest", data=bucket), fails=True)
    assert f"error: expected to reach {bucket}" in told and "nothing that answers" in told
    assert "Traceback" not in told and "Running node" not in told and not list(tmp_path.glob("0[1-8]*"))

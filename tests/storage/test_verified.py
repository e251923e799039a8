"""Writes that prove themselves: what is on disk is the old artifact or the new one, whole, or it is refused."""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from kedro.io import DatasetError

from nqcast.storage import verified
from nqcast.storage.errors import StorageError
from nqcast.storage.verified import (
    VerificationError,
    manifest_of,
    read_verified,
    replace_verified_file,
    verify,
    write_folder,
)

VERSIONED = ("versioned_frame", "versioned_document", "page", "checkpoint")
REPLACED = ("frame", "document", "text")
OLD, NEW = "2026-01-01T00.00.00.000Z", "2026-01-02T00.00.00.000Z"


def files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def flip(path: Path, position: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", REPLACED)
def test_any_flipped_bit_of_a_file_or_its_manifest_is_refused(
    name: str, folder: Path, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    catalog = catalog_in(folder, NEW)
    saved = artifact(name, 1)
    catalog.save(name, saved)
    rng = np.random.default_rng(0)
    for path in files_of(folder):
        for position in rng.integers(0, path.stat().st_size, size=40):
            bit = int(rng.integers(8))
            flip(path, int(position), bit)
            with pytest.raises(DatasetError, match="does not verify"):
                catalog.load(name)
            flip(path, int(position), bit)
    assert_same(catalog.load(name), saved)


@pytest.mark.parametrize("name", VERSIONED)
def test_any_flip_or_cut_of_the_newest_version_gives_the_older_one_and_a_warning(
    name: str,
    folder: Path,
    caplog: pytest.LogCaptureFixture,
    catalog_in: Callable,
    artifact: Callable,
    assert_same: Callable,
) -> None:
    older, newer = artifact(name, 1), artifact(name, 2)
    catalog_in(folder, OLD).save(name, older)
    before = set(files_of(folder))
    catalog_in(folder, NEW).save(name, newer)
    rng = np.random.default_rng(0)
    for path in set(files_of(folder)) - before:
        content = path.read_bytes()
        for position in rng.integers(0, len(content), size=25):
            damaged = bytearray(content)
            damaged[position] ^= 1 << int(rng.integers(8))
            path.write_bytes(damaged if rng.random() < 0.7 else content[:position])
            caplog.clear()
            with caplog.at_level(logging.WARNING):
                assert_same(catalog_in(folder, "unused").load(name), older)
            assert NEW in caplog.text
        path.write_bytes(content)
    assert_same(catalog_in(folder, "unused").load(name), newer)


def test_a_damaged_version_asked_for_by_name_says_expected_and_found_hash_and_the_cure(
    folder: Path, catalog_in: Callable, artifact: Callable
) -> None:
    catalog_in(folder, OLD).save("versioned_frame", artifact("versioned_frame", 1))
    catalog_in(folder, NEW).save("versioned_frame", artifact("versioned_frame", 2))
    path = folder / "frames" / "features.parquet" / NEW / "features.parquet"
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    flip(path, 100, 3)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DatasetError) as caught:
        catalog_in(folder, "unused", {"versioned_frame": NEW}).load("versioned_frame")
    assert all(part in str(caught.value) for part in (expected, found, OLD, "--load-versions"))


@pytest.mark.parametrize("part", ["model.safetensors", "checkpoint.json"])
def test_a_damaged_checkpoint_asked_for_by_name_says_the_two_hashes_and_one_cure(
    part: str, folder: Path, catalog_in: Callable, artifact: Callable
) -> None:
    catalog_in(folder, NEW).save("checkpoint", artifact("checkpoint", 1))
    path = folder / "checkpoint" / NEW / "checkpoint" / part
    expected = hashlib.sha256(path.read_bytes()).hexdigest()
    flip(path, 20, 3)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(DatasetError) as caught:
        catalog_in(folder, "unused", {"checkpoint": NEW}).load("checkpoint")
    assert f"does not verify: {path}: expected SHA-256 {expected}, found {found}. The file was" in str(caught.value)
    assert "use another one" not in str(caught.value)
    path.with_name("model.safetensors").rename(path.with_name("weights.pt"))
    with pytest.raises(DatasetError, match=r"found weights\.pt: \.pt files are pickles"):
        catalog_in(folder, "unused", {"checkpoint": NEW}).load("checkpoint")


def test_a_checkpoint_of_the_catalog_is_hashed_once_as_it_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch, catalog_in: Callable, artifact: Callable
) -> None:
    catalog_in(folder, NEW).save("checkpoint", artifact("checkpoint", 1))
    hashed, real = [], verified.digest

    def digest(content: object) -> str:
        hashed.append(content)
        return real(content)

    monkeypatch.setattr(verified, "digest", digest)
    catalog_in(folder, "unused", {"checkpoint": NEW}).load("checkpoint")
    assert len(hashed) == 2  # weights and document


@pytest.mark.parametrize("name", VERSIONED)
def test_a_load_version_gives_that_version(
    name: str, folder: Path, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    older, newer = artifact(name, 1), artifact(name, 2)
    catalog_in(folder, OLD).save(name, older)
    catalog_in(folder, NEW).save(name, newer)
    assert_same(catalog_in(folder, "unused", {name: OLD}).load(name), older)
    assert_same(catalog_in(folder, "unused").load(name), newer)
    with pytest.raises(DatasetError, match=OLD):
        catalog_in(folder, "unused", {name: "1999-01-01T00.00.00.000Z"}).load(name)


def test_what_this_session_saved_is_never_replaced_by_an_older_version(
    folder: Path, catalog_in: Callable, artifact: Callable
) -> None:
    catalog_in(folder, OLD).save("versioned_frame", artifact("versioned_frame", 1))
    catalog = catalog_in(folder, NEW)
    catalog.save("versioned_frame", artifact("versioned_frame", 2))
    flip(folder / "frames" / "features.parquet" / NEW / "features.parquet", 100, 3)
    catalog["versioned_frame"].release()
    with pytest.raises(DatasetError, match="does not verify"):
        catalog.load("versioned_frame")


class Killed(BaseException):
    """Stands for a SIGKILL: no `except Exception` sees it."""


@pytest.mark.parametrize("name", VERSIONED)
def test_a_versioned_save_that_fails_leaves_no_version_and_no_rest(
    name: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    catalog_in: Callable,
    artifact: Callable,
    assert_same: Callable,
) -> None:
    older = artifact(name, 1)
    catalog_in(folder, OLD).save(name, older)
    before = files_of(folder)

    def full(path: Path, content: bytes) -> None:
        path.write_bytes(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(verified, "_write_through", full)
        with pytest.raises(DatasetError, match="disk is full"):
            catalog_in(folder, NEW).save(name, artifact(name, 2))
    assert files_of(folder) == before
    assert not list(folder.rglob(f"*{NEW}*"))
    assert_same(catalog_in(folder, "unused").load(name), older)


@pytest.mark.parametrize("name", REPLACED)
@pytest.mark.parametrize("survived", range(5))
def test_a_kill_at_any_step_of_a_replacement_leaves_the_old_file_or_the_new_one(
    name: str,
    survived: int,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    catalog_in: Callable,
    artifact: Callable,
    assert_same: Callable,
) -> None:
    older, newer = artifact(name, 1), artifact(name, 2)
    catalog = catalog_in(folder, NEW)
    catalog.save(name, older)
    steps = iter(range(100))
    real_write, real_replace = verified._write_through, Path.replace

    def write(path: Path, content: bytes) -> None:
        if next(steps) >= survived:
            path.write_bytes(content[: len(content) // 2])
            raise Killed
        real_write(path, content)

    def replace(self: Path, target: Path) -> Path:
        if next(steps) >= survived:
            raise Killed
        return real_replace(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(verified, "_write_through", write)
        patch.setattr(Path, "replace", replace)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)  # a killed process cleans nothing up
        patch.setattr(verified, "_remove", lambda path: None)
        with pytest.raises(Killed):
            catalog.save(name, newer)
    assert_same(catalog.load(name), newer if survived >= 3 else older)
    catalog.save(name, newer)
    assert_same(catalog.load(name), newer)


def test_a_save_refuses_a_disk_without_room_before_it_writes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, catalog_in: Callable
) -> None:
    usage = shutil.disk_usage(folder.parent)
    monkeypatch.setattr(verified.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(DatasetError, match=r"needed.*free"):
        catalog_in(folder, NEW).save("versioned_document", {"a": 1})
    assert not files_of(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_named_with_the_cure(folder: Path, catalog_in: Callable) -> None:
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(DatasetError, match=r"no permission.*NQCAST_DATA"):
        catalog_in(folder, NEW).save("document", {"a": 1})
    folder.chmod(0o700)


def test_a_file_in_the_place_of_a_version_folder_is_named(folder: Path, catalog_in: Callable) -> None:
    folder.mkdir()
    (folder / "scores.json").write_text("{}")
    with pytest.raises(DatasetError, match="a file stands where a folder is needed"):
        catalog_in(folder, NEW).save("versioned_document", {"a": 1})


def test_what_is_saved_last_is_the_newest_version_whatever_the_clock_says(folder: Path, catalog_in: Callable) -> None:
    catalog_in(folder, NEW).save("versioned_document", {"session": "first"})
    for behind in (OLD, NEW):  # a clock set back, and two sessions of one instant
        catalog = catalog_in(folder, behind)
        catalog.save("versioned_document", {"session": behind})
        assert catalog.load("versioned_document") == {"session": behind}
        assert catalog["versioned_document"].provenance(saved=True)["version"] > NEW
        assert catalog_in(folder, "unused").load("versioned_document") == {"session": behind}
    assert catalog_in(folder, "x", {"versioned_document": NEW}).load("versioned_document") == {"session": "first"}
    assert sorted(p.name for p in (folder / "scores.json").iterdir()) == [NEW, f"{NEW[:-4]}001Z", f"{NEW[:-4]}002Z"]


def test_what_this_session_saved_is_what_it_loads_though_another_has_saved_since(
    folder: Path, catalog_in: Callable
) -> None:
    first, second = catalog_in(folder, OLD), catalog_in(folder, NEW)
    assert not first.exists("versioned_document")
    first.save("versioned_document", {"session": "first"})
    second.save("versioned_document", {"session": "second"})
    first.release("versioned_document")
    assert first.load("versioned_document") == {"session": "first"}
    assert first["versioned_document"].provenance(saved=True)["version"] == OLD
    assert catalog_in(folder, "unused").load("versioned_document") == {"session": "second"}


def test_a_newest_version_that_is_no_time_is_named_where_nothing_can_come_after_it(
    folder: Path, catalog_in: Callable
) -> None:
    catalog_in(folder, "zzz").save("versioned_document", {"a": 1})
    with pytest.raises(DatasetError, match="expected a version newer than zzz"):
        catalog_in(folder, NEW).save("versioned_document", {"a": 2})


def test_an_empty_newest_version_folder_left_by_another_tool_is_passed_over(folder: Path, catalog_in: Callable) -> None:
    catalog_in(folder, OLD).save("versioned_document", {"a": 1})
    (folder / "scores.json" / NEW).mkdir()
    assert catalog_in(folder, "unused").load("versioned_document") == {"a": 1}


def test_without_any_whole_version_the_broken_ones_are_named(folder: Path, catalog_in: Callable) -> None:
    catalog = catalog_in(folder, NEW)
    with pytest.raises(DatasetError, match="found none"):
        catalog.load("versioned_document")
    assert not catalog.exists("versioned_document")
    catalog_in(folder, NEW).save("versioned_document", {"a": 1})
    flip(folder / "scores.json" / NEW / "scores.json", 0, 0)
    with pytest.raises(DatasetError, match=f"broken ones .*{NEW}"):
        catalog_in(folder, "unused").load("versioned_document")


def test_the_manifest_is_what_sha256sum_checks(tmp_path: Path) -> None:
    path = tmp_path / "a file.json"
    replace_verified_file(path, b"content")
    if shutil.which("sha256sum") is None:
        pytest.skip("sha256sum is not installed")
    subprocess.run(["sha256sum", "--check", "--strict", "a file.json.sha256"], cwd=tmp_path, check=True)


def test_rests_of_killed_writers_go_at_the_next_write_and_a_living_writers_stay(tmp_path: Path) -> None:
    killed = tmp_path / ".v1.0123456789ab.tmp"
    killed.mkdir()
    (killed / "half").write_bytes(b"x")
    foreign = tmp_path / ".something.tmp"
    foreign.write_bytes(b"another program's")
    begun, done = threading.Event(), threading.Event()

    def slowly(folder: Path) -> None:
        (folder / "a").write_bytes(b"1")
        begun.set()
        done.wait(20)

    living = threading.Thread(target=write_folder, args=(tmp_path / "v2", slowly, "a.sha256"))
    living.start()
    begun.wait(20)
    assert not killed.exists()
    later = threading.Thread(target=write_folder, args=(tmp_path / "v3", {"a": b"1"}, "a.sha256"))
    later.start()  # waits for the lock, however old the other's folder is
    for rest in tmp_path.glob(".v2.*.tmp"):
        os.utime(rest, (0, 0))
    done.set()
    living.join()
    later.join()
    for version in ("v2", "v3"):
        verify(tmp_path / version / "a.sha256")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".something.tmp", "v2", "v3"]


REPLACE = """
import sys
from pathlib import Path
from nqcast.storage.verified import replace_verified_file
for i in range(60):
    replace_verified_file(Path(sys.argv[1]), bytes([65 + i % 26]) * int(sys.argv[2]))
"""


def test_two_processes_that_replace_one_file_leave_it_verifiable_at_every_instant(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    replace_verified_file(path, b"first")
    command = [sys.executable, "-c", REPLACE, str(path)]
    writers = [subprocess.Popen([*command, size]) for size in ("100", "30000")]
    while any(writer.poll() is None for writer in writers):
        time.sleep(0.001)
    assert [writer.wait() for writer in writers] == [0, 0]
    read_verified(path, tmp_path / "x.json.sha256")
    assert sorted(found.name for found in tmp_path.iterdir()) == ["x.json", "x.json.sha256"]


def test_a_folder_that_is_not_empty_is_never_overwritten(tmp_path: Path) -> None:
    write_folder(tmp_path / "v1", {"a": b"1"}, "a.sha256")
    with pytest.raises(StorageError, match="not empty"):
        write_folder(tmp_path / "v1", {"a": b"2"}, "a.sha256")
    assert read_verified(tmp_path / "v1" / "a", tmp_path / "v1" / "a.sha256") == b"1"


def test_a_file_that_its_manifest_does_not_name_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "v1", {"a": b"1"}, "a.sha256")
    (tmp_path / "v1" / "b").write_bytes(b"1")
    with pytest.raises(VerificationError, match="no line for b"):
        read_verified(tmp_path / "v1" / "b", tmp_path / "v1" / "a.sha256")


def test_a_reader_asks_again_where_a_writer_put_the_next_file_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has read the manifest of the old file, and finds the new one: that is no damage."""
    path, real, writers = tmp_path / "x.json", verified.sha256_of, [b"new"]
    replace_verified_file(path, b"old")

    def sha256_of(file: Path) -> str:
        while writers:
            replace_verified_file(path, writers.pop())
        return real(file)

    monkeypatch.setattr(verified, "sha256_of", sha256_of)
    verify(manifest_of(path))
    path.write_bytes(b"damaged")
    with pytest.raises(VerificationError, match="expected SHA-256"):
        verify(manifest_of(path))

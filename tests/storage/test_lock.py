"""One holder per folder, whatever processes and hosts are called; its workers share it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from nqcast.storage.errors import StorageError
from nqcast.storage.lock import DirectoryBusyError, DirectoryLock, is_held
from nqcast.storage.verified import replace_file

HOLD = (
    "import sys, time; from nqcast.storage.lock import DirectoryLock;"
    "lock = DirectoryLock(sys.argv[1]).acquire(); print('held', flush=True); time.sleep(60)"
)
TAKE = "import sys; from nqcast.storage.lock import DirectoryLock; DirectoryLock(sys.argv[1]).acquire()"


def hold(directory: Path) -> subprocess.Popen:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    return holder


def kill(holder: subprocess.Popen) -> None:
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()


def test_a_live_holder_is_named_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        assert is_held(tmp_path)
        with pytest.raises(DirectoryBusyError, match=f"process {holder.pid} on host"):
            DirectoryLock(tmp_path).acquire()
    finally:
        kill(holder)
    assert not is_held(tmp_path)
    with DirectoryLock(tmp_path) as lock:
        assert lock.directory == tmp_path


def test_another_container_with_the_same_process_number_and_host_name_is_refused(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        lock = tmp_path / ".lock"
        told = json.loads(lock.read_text())
        lock.write_text(json.dumps({**told, "pid": os.getpid(), "host": socket.gethostname()}))
        with pytest.raises(DirectoryBusyError):
            DirectoryLock(tmp_path).acquire()
    finally:
        kill(holder)


def test_a_process_and_all_that_it_starts_share_its_lock_and_the_inner_release_keeps_it(tmp_path: Path) -> None:
    worker = [sys.executable, "-c", TAKE, str(tmp_path)]
    grandchild = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)", *worker]
    with DirectoryLock(tmp_path):
        with DirectoryLock(tmp_path):
            pass
        assert is_held(tmp_path)
        for command in (worker, grandchild):
            assert subprocess.run(command, capture_output=True, check=False).returncode == 0
        stranger = {name: value for name, value in os.environ.items() if name != "NQCAST_LOCK_TOKENS"}
        refused = subprocess.run(worker, env=stranger, capture_output=True, text=True, check=False)
        assert refused.returncode and f"held by process {os.getpid()} on host" in refused.stderr
    assert not os.environ["NQCAST_LOCK_TOKENS"]


def test_after_release_the_directory_is_free(tmp_path: Path) -> None:
    DirectoryLock(tmp_path).acquire().release()
    other = hold(tmp_path)  # another process can take it
    assert other.poll() is None and is_held(tmp_path)
    kill(other)


@pytest.mark.parametrize("lock", [".lock", ".writing"])
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_as_it_was(lock: str, tmp_path: Path) -> None:
    """The holder writes its name into the file of the lock."""
    victim, folder = tmp_path / "victim", tmp_path / "folder"
    victim.write_text("precious")
    folder.mkdir()
    (folder / lock).symlink_to(victim)
    with pytest.raises(StorageError, match="a link stands where a file is needed: remove it"):
        DirectoryLock(folder).acquire() if lock == ".lock" else replace_file(folder / "x", b"")
    assert victim.read_text() == "precious"

"""One run per directory."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from nqcast.training.run_directory import DirectoryLock, RunDirectoryBusyError

HOLD = (
    "import sys, time; from nqcast.training.run_directory import DirectoryLock;"
    "lock = DirectoryLock(sys.argv[1]).acquire(); print('held', flush=True); time.sleep(60)"
)

TAKE = "import sys; from nqcast.training.run_directory import DirectoryLock; DirectoryLock(sys.argv[1]).acquire()"


def hold(directory: Path) -> subprocess.Popen:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(directory)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline().strip() == "held"
    return holder


def test_a_live_holder_is_named_and_a_dead_ones_lock_is_taken_over(tmp_path: Path) -> None:
    holder = hold(tmp_path)
    try:
        with pytest.raises(RunDirectoryBusyError, match=f"process {holder.pid} on host"):
            DirectoryLock(tmp_path).acquire()
    finally:
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
    with DirectoryLock(tmp_path) as lock:
        assert lock.directory == tmp_path


def test_one_process_shares_its_own_lock_and_the_inner_release_keeps_it(tmp_path: Path) -> None:
    with DirectoryLock(tmp_path):
        with DirectoryLock(tmp_path):
            pass
        worker = [sys.executable, "-c", TAKE, str(tmp_path)]
        grandchild = [sys.executable, "-c", "import subprocess, sys; subprocess.run(sys.argv[1:], check=True)", *worker]
        assert subprocess.run(worker, capture_output=True).returncode == 0
        assert subprocess.run(grandchild, capture_output=True).returncode != 0


def test_after_release_the_directory_is_free(tmp_path: Path) -> None:
    DirectoryLock(tmp_path).acquire().release()
    holder = hold(tmp_path)  # another process can take it
    os.kill(holder.pid, signal.SIGKILL)
    holder.communicate()

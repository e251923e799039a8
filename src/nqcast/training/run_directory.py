"""One run per directory: a lock that names its holder and dies with it."""

import fcntl
import json
import logging
import os
import socket
from pathlib import Path
from types import TracebackType
from typing import IO

from nqcast.training.metrics_log import METRICS_NAME

logger = logging.getLogger(__name__)

LOCK_NAME = ".lock"


class RunDirectoryBusyError(ValueError):
    """Another live process works in this directory."""


class DirectoryLock:
    """Advisory lock of a run directory, held through an open file, so that the kernel frees a dead holder's.

    The file names process and host for the reader of the message. A lock that this process, or the process that
    started it, already holds is shared: a launcher and its workers are one run.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self._file: IO[str] | None = None

    def acquire(self) -> "DirectoryLock":
        """Take the lock, creating the directory. Raises RunDirectoryBusyError naming the live holder."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = (self.directory / LOCK_NAME).open("a+", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _read_holder(file)
            file.close()
            if holder.get("host") == socket.gethostname() and holder.get("pid") in (os.getpid(), os.getppid()):
                return self
            raise RunDirectoryBusyError(
                f"expected {self.directory} to be free, found it held by process {holder.get('pid', 'unknown')} on "
                f"host {holder.get('host', 'unknown')}; wait for that run or choose another directory"
            ) from None
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        file.flush()
        self._file = file
        return self

    def release(self) -> None:
        """Give the lock back (nothing happens where it was shared or never taken)."""
        if self._file is not None:
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def __enter__(self) -> "DirectoryLock":
        return self.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def move_aside(directory: Path) -> None:
    """Move an earlier run's files into replaced_NNN, so that nothing is lost and nothing is mixed."""
    old = [*directory.glob("checkpoint_*"), *directory.glob(METRICS_NAME)]
    if not old:
        return
    aside = directory / f"replaced_{len(list(directory.glob('replaced_*'))) + 1:03d}"
    aside.mkdir()
    for path in old:
        path.rename(aside / path.name)
    logger.info("the earlier run was moved to %s", aside)


def _read_holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    text = file.read()
    try:
        holder = json.loads(text)
    except json.JSONDecodeError:  # the holder is between locking and writing its name
        return {}
    return holder if isinstance(holder, dict) else {}

"""One lock: a file that its holder keeps open under flock, so that the kernel frees a dead one's.

The file holds a token that nobody can guess, and names process and host for the reader of a refusal. Whoever has the
token in its environment belongs to the holder: a launcher and its workers are one run, in one container or in two.
"""

import fcntl
import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from nqcast.storage.errors import storage_errors

LOCK_NAME = ".lock"
_WRITING = ".writing"
_TOKENS = "NQCAST_LOCK_TOKENS"


class DirectoryBusyError(ValueError):
    """Another living process works in this folder."""


class DirectoryLock:
    """The lock of a folder; taken a second time by the process that holds it, or by one of its workers, it is shared.

    Args:
        directory: is made where it is absent.
        cure: what someone can do who is refused, as the end of the sentence.
    """

    def __init__(self, directory: Path | str, cure: str = "wait for that run or choose another directory") -> None:
        self.directory, self.cure = Path(directory), cure
        self._file: IO[str] | None = None
        self._token = ""

    def acquire(self) -> Self:
        """Take the lock; raises DirectoryBusyError, naming the living holder, where it is another run's."""
        self.directory.mkdir(parents=True, exist_ok=True)
        file = _opened(self.directory / LOCK_NAME)
        if not _try(file):
            holder = _read_holder(file)
            file.close()
            if holder.get("token") in _tokens():
                return self
            raise DirectoryBusyError(
                f"expected {self.directory} to be free, found it held by process {holder.get('pid', 'unknown')} on "
                f"host {holder.get('host', 'unknown')}; {self.cure}"
            )
        self._file, self._token = file, secrets.token_hex(16)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "token": self._token}))
        file.flush()
        os.environ[_TOKENS] = " ".join([*_tokens(), self._token])  # what the workers of this process inherit
        return self

    def release(self) -> None:
        """Give the lock back; nothing happens where it was shared or never taken."""
        if self._file is not None:
            os.environ[_TOKENS] = " ".join(token for token in _tokens() if token != self._token)
            self._file.truncate(0)
            self._file.close()
            self._file = None

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def is_held(directory: Path) -> bool:
    """Whether a living process holds the folder's lock."""
    try:
        with (directory / LOCK_NAME).open("r+") as file:
            return not _try(file)
    except FileNotFoundError:
        return False


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Wait until no other thread or process writes into `folder`, and keep them waiting; no file is left behind.

    Whatever a writer makes there under a temporary name is therefore a dead writer's for whoever comes next.
    """
    path = folder / _WRITING
    while True:
        with _opened(path) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if not _is_at(file, path):  # the one before has just removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def _opened(path: Path) -> IO[str]:
    """A lock's file, made where it is absent; no link is followed, for a holder writes into it.

    Raises:
        StorageError: a link or a folder stands there, or the folder cannot be written.
    """
    with storage_errors(path, 0):
        return open(path, "a+", encoding="utf-8", opener=_without_links)


def _without_links(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o666)


def _is_at(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _try(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tokens() -> list[str]:
    """Tokens of the locks that this process holds, or that it was started under."""
    return os.environ.get(_TOKENS, "").split()


def _read_holder(file: IO[str]) -> dict[str, object]:
    file.seek(0)
    try:
        holder = json.loads(file.read())
    except json.JSONDecodeError:  # the holder is between locking and writing its name
        return {}
    return holder if isinstance(holder, dict) else {}

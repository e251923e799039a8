"""One lock: a file that its holder keeps open under flock, so that the kernel frees a dead holder's.

The file holds a token that nobody can guess, and names process and host for the reader of a refusal. Whoever has the
token in its environment belongs to the holder: a launcher and its workers are one run, in one container or in two.
"""

import atexit
import fcntl
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

from nqcast.storage.errors import ExistsAlreadyError, storage_errors
from nqcast.storage.json_values import Json, read_object
from nqcast.storage.place import StorePath

log = logging.getLogger(__name__)

LOCK_NAME = ".lock"
HELD_NAME = ".held"
"""The name of a store's lock: a folder that is moved there brings its own lock's file, which holds nobody."""
_WRITING = ".writing"
_NAME_LENGTH = 32
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

    @property
    def is_shared(self) -> bool:
        """Whether another process of the same run has taken it."""
        return self._file is None

    def release(self) -> None:
        """Give the lock back; nothing happens where it was shared or never taken."""
        file, self._file = self._file, None  # two threads may end the same run at once
        if file is not None:
            os.environ[_TOKENS] = " ".join(token for token in _tokens() if token != self._token)
            file.truncate(0)
            file.close()

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class StoreLock:
    """The lock of a place in a store: an object that is put only where there is none, by who has the folder's lock.

    A store does not know whether the process behind it lives. So the object names the holder's working folder, of which
    no other process has the lock: the next run there takes over what a killed one has left. Any other is refused.

    Args:
        place: what is held.
        folder: where the holder works, under its own lock.
        cure: what someone can do who is refused, as the end of the sentence.
    """

    def __init__(self, place: StorePath, folder: Path, cure: str) -> None:
        self._object, self._folder, self._cure = place / HELD_NAME, folder, cure
        self._tag = ""

    def acquire(self) -> Self:
        """Take the lock; raises DirectoryBusyError, naming the holder, where another working folder has it."""
        own = {"pid": os.getpid(), "host": socket.gethostname(), "by": _name_of(self._folder)}
        content = json.dumps(own).encode()
        try:
            self._tag = self._object.write_bytes(content, create=True)
        except ExistsAlreadyError as error:
            holder = self._holder()
            if holder is None:
                return self.acquire()
            if holder.get("by") != own["by"]:
                raise DirectoryBusyError(
                    f"expected {self._object.parent} to be free, found it held by process {holder.get('pid')} on host "
                    f"{holder.get('host')}, which works in another folder; {self._cure}; where that process is dead, "
                    f"remove {self._object}"
                ) from error
            self._tag = self._object.write_bytes(content)  # who is refused from now on looks for the living one
        atexit.register(self.release)
        return self

    def _holder(self) -> Json | None:
        """What the object says of its holder; None where it has been given back meanwhile."""
        try:
            return read_object(self._object.read_bytes(), self._object)
        except FileNotFoundError:
            return None

    def release(self) -> None:
        """Give back what is still this run's; where the store does not answer, the next run of this folder does so."""
        atexit.unregister(self.release)
        try:
            if self._object.tag() == self._tag:
                self._object.unlink()
        except FileNotFoundError:
            log.warning(
                "%s was removed while this run went on: another may have written to the same place", self._object
            )
        except OSError as error:
            log.warning("%s stays behind: %s", self._object, error)

    def __enter__(self) -> Self:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def _name_of(folder: Path) -> str:
    """A name of a working folder that no other one has, wherever it is mounted; it stays, where it is whole."""
    file = folder / ".name"
    name = file.read_text(encoding="utf-8") if file.exists() else ""
    if len(name) != _NAME_LENGTH:
        name = secrets.token_hex(_NAME_LENGTH // 2)
        file.write_text(name, encoding="utf-8")
    return name


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

"""Where an artifact lies: a path of the local disk, or a name in an object store by its URL; both are asked alike.

`NQCAST_DATA=s3://bucket/prefix` puts whatever is saved once and proved by a manifest into the store. What a run works
in needs a local disk: running checkpoints, the tracked runs, locks. `working` says where that is.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from nqcast.storage.errors import ExistsAlreadyError, StorageError

_S3 = "s3://"
_URL = re.compile(r"[A-Za-z][\w+.-]+:/|file:")
"""One slash too: a path that was a URL has lost the other, and would be a folder of that name."""
_RETRIES = 3


class StorePath:
    """A name in an object store, with as much of a `Path` as artifacts need; a folder is what other names begin with.

    Whatever the store answers other than "there is none" is a StorageError of one line: a store that is down does not
    look like one that holds nothing.
    """

    def __init__(self, url: str) -> None:
        self._path = PurePosixPath(url.removeprefix(_S3))
        if not url.startswith(_S3) or ".." in self._path.parts or not self._path.parts:
            raise ValueError(f"expected a local path, or a place in a store such as s3://bucket/nqcast, found {url}")

    def __str__(self) -> str:
        return f"{_S3}{self._path}"

    def __repr__(self) -> str:
        return f"StorePath({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and str(self) == str(other)

    def __hash__(self) -> int:
        return hash(str(self))

    def __truediv__(self, name: str | PurePosixPath) -> StorePath:
        return self._at(self._path / name)

    def _at(self, path: PurePosixPath) -> StorePath:
        return StorePath(f"{_S3}{path}")

    @property
    def name(self) -> str:
        return self._path.name

    @property
    def suffix(self) -> str:
        return self._path.suffix

    @property
    def parent(self) -> StorePath:
        return self.parents[0]

    @property
    def parents(self) -> tuple[StorePath, ...]:
        """The folders above, up to the bucket."""
        return tuple(self._at(path) for path in self._path.parents if path.parts) or (self,)

    def with_name(self, name: str) -> StorePath:
        return self._at(self._path.with_name(name))

    def relative_to(self, other: Place) -> PurePosixPath:
        return PurePosixPath(str(self)).relative_to(str(other))

    def is_relative_to(self, other: Place) -> bool:
        return PurePosixPath(str(self)).is_relative_to(str(other))

    def absolute(self) -> StorePath:
        return self

    def as_posix(self) -> str:
        return str(self)

    def exists(self) -> bool:
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        return self._kind() == "directory"

    def _kind(self) -> str | None:
        try:
            return str(self._ask("info")["type"])
        except FileNotFoundError:
            return None

    def iterdir(self) -> Iterator[StorePath]:
        """What lies directly below; nothing where the folder is none."""
        try:
            return (self / PurePosixPath(name).name for name in self._ask("ls", detail=False))
        except FileNotFoundError:
            return iter(())

    def read_bytes(self) -> bytes:
        return bytes(self._ask("cat_file"))

    def read_text(self, encoding: str) -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes, *, create: bool = False) -> str:
        """Put the object in one step and give its tag; with `create` only where there is none, whoever else is at it.

        Raises:
            ExistsAlreadyError: with `create`, there is one.
            StorageError: the store does not take it.
        """
        try:
            return str(self._ask("pipe_file", content, mode="create" if create else "overwrite")["e_tag"])
        except FileNotFoundError as error:
            raise self._error(_reason("404 Not Found")) from error

    def tag(self) -> str:
        """What the store calls the object's content; FileNotFoundError where there is none."""
        return str(self._ask("info")["e_tag"])

    def unlink(self) -> None:
        self._ask("rm_file")

    def rename(self, target: StorePath) -> None:
        """Move what lies at or below this name, one object after the other."""
        for inner in list(self.iterdir()) if self.is_dir() else []:
            inner.rename(target / inner.name)
        if self.is_file():
            target.write_bytes(self.read_bytes())
            self.unlink()

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        system, failure = _file_system(tuple(sorted(item for item in os.environ.items() if item[0].startswith("AWS_"))))
        try:
            return getattr(system, method)(str(self._path), *arguments, **options)
        except FileNotFoundError:
            raise
        except FileExistsError as error:
            raise ExistsAlreadyError(
                f"expected to reach {self}, found that it exists already: save under another version"
            ) from error
        except (failure, OSError) as error:
            raise self._error(_reason(str(error))) from error

    def _error(self, reason: str) -> StorageError:
        return StorageError(f"expected to reach {self}, found {reason}")


Place = Path | StorePath


def place(text: str | Path | StorePath | PurePosixPath) -> Place:
    """The path, `~` being the user's home, or the name in a store for `s3://bucket/…`; ValueError for another URL."""
    if isinstance(text, StorePath):
        return text
    local = str(text).removeprefix("file://")
    return StorePath(local) if _URL.match(local) else Path(local).expanduser()


def local_place(text: str | Path) -> Path:
    """The path of the local disk; ValueError for a name in a store."""
    found = place(text)
    if isinstance(found, StorePath):
        raise ValueError(f"expected a folder of the local disk, found {found}: what grows or is worked in needs one")
    return found


def data_place(unnamed: str = "data") -> Place:
    """What NQCAST_DATA names: the place of every layer; `unnamed` where it names none.

    A relative path counts from the current folder, as that of a file of bars does, wherever the project lies.
    """
    named = os.environ.get("NQCAST_DATA")
    return place(named).absolute() if named else place(unnamed)


def working(data: Place) -> Path:
    """The local folder that goes with a place of data: itself, or what NQCAST_WORK (`data`) holds for that in a store.

    Raises:
        ValueError: it lies in a store, but not below NQCAST_DATA.
    """
    if isinstance(data, Path):
        return data
    root = data_place()
    if not isinstance(root, StorePath) or not data.is_relative_to(root):
        raise ValueError(
            f"expected a local path, or a place below NQCAST_DATA, found {data}: what is worked in needs a local disk"
        )
    return local_place(os.environ.get("NQCAST_WORK") or "data") / data.relative_to(root)


def copy_here(source: Place, target: Path) -> None:
    """Copy a file or a folder of a store to a local path."""
    if not source.is_dir():
        target.write_bytes(source.read_bytes())
        return
    target.mkdir()
    for inner in source.iterdir():
        copy_here(inner, target / inner.name)


@functools.lru_cache(maxsize=8)
def _file_system(variables: tuple[tuple[str, str], ...]) -> tuple[Any, Any]:
    """fsspec's file system of S3, and what it raises besides OSError.

    Raises:
        ValueError: the client is not installed, or an endpoint is named without a key to it.
    """
    given = dict(variables)
    endpoint = given.get("AWS_ENDPOINT_URL", "")
    if endpoint and not (given.get("AWS_ACCESS_KEY_ID") or given.get("AWS_SKIP_SIGNATURE")):
        raise ValueError(
            f"expected the credentials of {endpoint}, found none: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    try:
        from obstore.exceptions import AlreadyExistsError, BaseError
        from obstore.fsspec import FsspecStore
    except ImportError as error:
        raise ValueError(f"expected the client of {_S3}, found none: pip install 'nqcast[s3]'") from error

    class Store(FsspecStore):
        """The library's file system, but that a new object is put as its mode asks: the library's own overwrites."""

        cachable = False

        async def _pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **_: Any) -> Any:
            bucket, key = self._split_path(path)
            try:
                return await self._construct_store(bucket).put_async(key, value, mode=mode)
            except AlreadyExistsError as error:
                raise FileExistsError(path) from error

    options = {"allow_http": endpoint.startswith("http://"), "connect_timeout": "5s"}
    return Store("s3", client_options=options, retry_config={"max_retries": _RETRIES}), BaseError


def _reason(text: str) -> str:
    """A client's error in the words of who has to mend it."""
    first = text.partition("\n")[0]
    for mark, words in (
        ("169.254.169.254", "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        ("403 Forbidden", "these credentials refused: check AWS_ACCESS_KEY_ID, its secret and its rights"),
        ("404 Not Found", "no bucket of that name: make it, or correct the name"),
        ("error sending request", "nothing that answers: check AWS_ENDPOINT_URL and the network"),
    ):
        if mark in first:
            return words
    return f"the answer: {first}"

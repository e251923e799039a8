"""Room on disk and what a failed write says: plain Python, for whoever writes files."""

import errno
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SPARE_BYTES = 1 << 20
"""Room for a manifest, the folder entry and the file system's own books (bytes)."""


class StorageError(OSError):
    """The place to write to is full, read-only or not a folder."""


class ExistsAlreadyError(StorageError):
    """Another writer has put the object of a store that was to be new."""


def require_free_space(folder: Path, n_bytes: int) -> None:
    """Raise StorageError unless `folder`'s disk has `n_bytes` and a little more free."""
    free = shutil.disk_usage(folder).free
    if free < n_bytes + SPARE_BYTES:
        raise StorageError(
            errno.ENOSPC,
            f"not enough space on disk: {mib(n_bytes + SPARE_BYTES)} needed, {mib(free)} free; "
            f"free some space or choose another data folder (NQCAST_DATA)",
            str(folder),
        )


def require_writable(folder: Path, n_bytes: int) -> None:
    """Raise StorageError unless `folder`, made where it is absent, takes a file and has room for `n_bytes` and more."""
    with storage_errors(folder, n_bytes):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"\0")
            file.flush()
    require_free_space(folder, n_bytes)


@contextmanager
def storage_errors(path: Path, n_bytes: int) -> Iterator[None]:
    """Turn an OSError of writing `n_bytes` to `path` into a StorageError that says the cause and the cure."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        cures = {
            errno.ENOSPC: f"the disk is full, {mib(n_bytes)} needed: free some space",
            errno.EDQUOT: f"the disk quota is used up, {mib(n_bytes)} needed: free some space",
            errno.EFBIG: "the file is larger than is allowed here (ulimit -f): raise that",
            errno.EROFS: "the file system is read-only",
            errno.EACCES: "no permission to write there",
            errno.EPERM: "no permission to write there",
            errno.ENOTDIR: "a file stands where a folder is needed: move it away",
            errno.EEXIST: "a file stands where a folder is needed: move it away",
            errno.EISDIR: "a folder stands where a file is needed: move it away",
            errno.ELOOP: "a link stands where a file is needed: remove it",
            errno.ENOTEMPTY: "it exists already and is not empty: save under another version",
        }
        cure = cures.get(error.errno or 0, error.strerror or str(error))
        message = f"{path} could not be written ({cure}, or choose another data folder with NQCAST_DATA)"
        raise StorageError(error.errno, message, str(path)) from error


def mib(n_bytes: int) -> str:
    """A number of bytes as people read it."""
    return f"{n_bytes / 2**20:,.1f} MiB"

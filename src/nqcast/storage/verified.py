"""Durable writes that prove themselves: temporary file, fsync, rename, fsync of the folder, SHA-256 manifest.

A manifest is a text file in the format of `sha256sum` (`<hash>  <name>` per line), so `sha256sum -c` checks it
too. Plain Python, without Kedro: a reader gets the bytes that were verified, never a file to open again.
"""

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from nqcast.storage.errors import require_free_space, storage_errors

_LINE = re.compile(r"^(?P<digest>[0-9a-f]{64})  (?P<name>[^/\0]+)$")
_STALE_SECONDS = 3600.0

Content = bytes | Callable[[BinaryIO], None]
"""What a file holds, or a function that writes it piece by piece, from front to back."""


class VerificationError(ValueError):
    """What is on disk is not what was written."""


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader, or a crash, sees the old file or the new one, whole.

    Raises:
        StorageError: the folder is full or cannot be written; the old file is untouched.
    """
    with storage_errors(path, len(content)):
        path.parent.mkdir(parents=True, exist_ok=True)
        require_free_space(path.parent, len(content))
        temporary = _temporary(path)
        try:
            _write_through(temporary, content)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def replace_verified_file(path: Path, content: bytes, manifest: Path) -> None:
    """Replace `path` and its manifest so that at every instant the manifest accepts the file that is there.

    Two files cannot be renamed at once, so the manifest names the old and the new hash while the file changes.
    """
    new_line = _line(content, path.name)
    try:
        old_lines = {f"{digest}  {name}\n" for digest, name in _read_manifest(manifest)} if path.exists() else set()
    except VerificationError:  # the old file cannot be proved anyway
        old_lines = set()
    replace_file(manifest, "".join([new_line, *sorted(old_lines - {new_line})]).encode())
    replace_file(path, content)
    replace_file(manifest, new_line.encode())


def write_folder(folder: Path, files: Mapping[str, Content], manifest: str) -> None:
    """Create `folder` with `files` (relative path to content) and their manifest; it appears whole or not at all.

    The manifest lies beside the files: `manifest` may hold a sub-folder, which is then the files' one too.

    Raises:
        StorageError: `folder` exists and is not empty, or the disk is full or cannot be written; nothing is left
            behind.
    """
    size = sum(len(content) for content in files.values() if isinstance(content, bytes))
    with storage_errors(folder, size):
        folder.parent.mkdir(parents=True, exist_ok=True)
        remove_stale_temporaries(folder.parent)
        require_free_space(folder.parent, size)
        temporary = _temporary(folder)
        try:
            temporary.mkdir()
            digests = {name: _write_below(temporary, name, content) for name, content in files.items()}
            lines = [f"{digest}  {Path(name).name}\n" for name, digest in sorted(digests.items())]
            _write_below(temporary, manifest, "".join(lines).encode())
            sync_folder(temporary)
            temporary.rename(folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_folder(folder.parent)


def read_verified(path: Path, manifest: Path) -> bytes:
    """Read `path` and return its bytes if their SHA-256 stands in `manifest`.

    Raises:
        VerificationError: file or manifest is missing, or the hash is another; says which were expected and found.
    """
    accepted = [digest for digest, name in _read_manifest(manifest) if name == path.name]
    if not accepted:
        raise VerificationError(f"the manifest {manifest} has no line for {path.name}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise VerificationError(f"{path} cannot be read ({error.strerror}), though {manifest} names it") from error
    found = sha256_hex(content)
    if found not in accepted:
        raise VerificationError(f"{path}: expected SHA-256 {' or '.join(accepted)}, found {found}")
    return content


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what a killed writer left more than an hour ago; younger ones may belong to a living one."""
    for leftover in folder.glob(".*.tmp"):
        try:
            if time.time() - leftover.stat().st_mtime < _STALE_SECONDS:
                continue
        except FileNotFoundError:  # its writer has just finished
            continue
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _temporary(path: Path) -> Path:
    """A new name beside `path`: hidden, so that no pattern for versions matches it."""
    return path.with_name(f".{path.name[:80]}.{secrets.token_hex(6)}.tmp")


def _write_below(root: Path, name: str, content: Content) -> str:
    target = root / name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = _write_through(target, content)
    sync_folder(target.parent)
    return digest


def _write_through(path: Path, content: Content) -> str:
    """Write a new file to the disk; returns the SHA-256 of what was written."""
    with path.open("xb") as file:
        hashed = _Hashed(file)
        if isinstance(content, bytes):
            hashed.write(content)
        else:
            content(cast(BinaryIO, hashed))
        file.flush()
        os.fsync(file.fileno())
    return hashed.digest.hexdigest()


class _Hashed:
    """A file that is written from front to back, and the hash of what went into it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest, self.closed = file, hashlib.sha256(), False

    def write(self, content: bytes) -> int:
        self.digest.update(content)
        return self._file.write(content)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        """The writer has ended; the file itself is closed by whoever opened it."""
        self.closed = True


def _line(content: bytes, name: str) -> str:
    return f"{sha256_hex(content)}  {name}\n"


def _read_manifest(manifest: Path) -> list[tuple[str, str]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise VerificationError(f"its manifest {manifest} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise VerificationError(f"its manifest {manifest} is garbled ({error.reason})") from error
    matches = [_LINE.match(line) for line in lines]
    if not matches or not all(matches):
        raise VerificationError(f"its manifest {manifest} is garbled: expected lines '<sha256>  <file name>'")
    return [(match["digest"], match["name"]) for match in matches if match]

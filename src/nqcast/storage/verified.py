"""Durable writes that prove themselves: temporary name, fsync, SHA-256 manifest, rename, fsync of the folder.

A manifest is a text file in the format of `sha256sum` (`<hash>  <name>` per line), so `sha256sum -c` checks it
too. In an object store, where nothing can be renamed, the same files are put there one by one, their manifest last.
Plain Python, without Kedro.
"""

import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from nqcast.storage.errors import StorageError, require_free_space, storage_errors
from nqcast.storage.fingerprint import digest
from nqcast.storage.lock import one_writer
from nqcast.storage.place import Place, StorePath

T = TypeVar("T")
P = TypeVar("P", Path, StorePath, Place)

_LINE = re.compile(r"^(?P<digest>[0-9a-f]{64})  (?P<name>[^\0]+)$")
_TEMPORARY = re.compile(r"^\.(?P<name>.+)\.[0-9a-f]{12}\.(tmp|old)$")

Fill = Callable[[Path], None]
"""Makes a file, or what a folder holds, at the path that it is given."""


class VerificationError(ValueError):
    """What is on disk is not what was written."""


def sha256_of(path: Place) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    if isinstance(path, StorePath):
        return digest(path.read_bytes())
    with path.open("rb") as file:
        return digest(iter(lambda: file.read(1 << 20), b""))


def manifest_of(path: P) -> P:
    """Where the manifest of a single file lies: `<name>.sha256` beside it."""
    return path.with_name(f"{path.name}.sha256")


def replace_file(path: Path, content: bytes) -> None:
    """Put `content` at `path` in one step: a reader, or a crash, sees the old file or the new one, whole.

    Raises:
        StorageError: the folder is full or cannot be written; the old file is untouched.
    """
    with _writing(path, len(content)) as temporary:
        _write_through(temporary, content)
        temporary.replace(path)


def replace_verified_file(path: Place, content: bytes | Fill) -> None:
    """Replace `path` and its manifest so that at every instant the manifest accepts the file that is there.

    Two files cannot be renamed at once, so the manifest names the old and the new hash while the file changes.
    """
    if isinstance(path, StorePath):
        _put_file(path, content)
        return
    manifest = manifest_of(path)
    with _writing(path, len(content) if isinstance(content, bytes) else 0) as temporary:
        temporary.mkdir()
        new, lines = temporary / path.name, temporary / "manifest"
        if isinstance(content, bytes):
            _write_through(new, content)
        else:
            content(new)
            _sync(new)
        line = f"{sha256_of(new)}  {path.name}\n"
        _write_through(lines, "".join([line, *sorted(_present_lines(path) - {line})]).encode())
        lines.replace(manifest)
        new.replace(path)
        sync_folder(path.parent)
        _write_through(lines, line.encode())
        lines.replace(manifest)


def write_folder(folder: Place, files: Mapping[str, bytes] | Fill, manifest: str, *, replace: bool = False) -> None:
    """Create `folder` with `files` (by relative path, or a function that fills it) and their manifest, whole or not.

    `manifest` may lie in a sub-folder; it names the files from there. With `replace` an earlier folder of the name
    gives way; a kill in between leaves it under a hidden name, from which `restore_replaced` brings it back.

    Raises:
        StorageError: `folder` exists and is not empty, or the disk is full or cannot be written; nothing is left
            behind. In a store, what a killed writer had put there has no manifest and counts as nothing.
    """
    if isinstance(folder, StorePath):
        _put_folder(folder, files, manifest)
        return
    with _writing(folder, 0 if callable(files) else sum(map(len, files.values()))) as temporary:
        temporary.mkdir()
        if callable(files):
            files(temporary)
        else:
            for name, content in files.items():
                (temporary / name).parent.mkdir(parents=True, exist_ok=True)
                _write_through(temporary / name, content)
        root = (temporary / manifest).parent
        lines = [f"{sha256_of(path)}  {path.relative_to(root).as_posix()}\n" for path in _synced(temporary)]
        _write_through(temporary / manifest, "".join(lines).encode())
        for inner in {root, temporary}:
            sync_folder(inner)
        if replace and folder.exists():
            aside = temporary.with_suffix(".old")
            folder.rename(aside)
            temporary.rename(folder)
            shutil.rmtree(aside)
        else:
            temporary.rename(folder)


def restore_replaced(folder: Path) -> None:
    """Bring back what a killed writer had moved aside in `folder` and not replaced; its other rests go."""
    with one_writer(folder):
        _remove_rests(folder)


@contextmanager
def verified_copy(path: Place) -> Iterator[Path]:
    """Where on the local disk the artifact at `path`, of which `manifest_of(path)` is proof, can be read.

    Raises:
        VerificationError: it is not what was written.
    """
    manifest = manifest_of(path)
    if isinstance(path, Path):
        verify(manifest)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="nqcast-") as folder:
        for name in sorted({name for _, name in _read_manifest(manifest)}):
            here = Path(folder) / name
            here.parent.mkdir(parents=True, exist_ok=True)
            here.write_bytes(read_verified(manifest.parent / name, manifest))
        yield Path(folder) / path.name


def read_verified(path: Place, manifest: Place) -> bytes:
    """Read `path` and return its bytes if their SHA-256 stands in `manifest`.

    Raises:
        VerificationError: file or manifest is missing, or the hash is another; says which were expected and found.
    """
    return _unless_replaced(manifest, lambda: _read_accepted(path, manifest))


def verify(manifest: Place) -> None:
    """Raise VerificationError unless every file that `manifest` names is what was written."""

    def check() -> None:
        for name in sorted({name for _, name in _read_manifest(manifest)}):
            file = manifest.parent / name
            accepted = _accepted(file, manifest)
            with _readable(file, manifest):
                found = sha256_of(file)
            _require(file, accepted, found)

    _unless_replaced(manifest, check)


def _unless_replaced(manifest: Place, check: Callable[[], T]) -> T:
    """What `check` gives; asked again where a writer has put the next file there while it was at work."""
    while True:
        before = _content(manifest)
        try:
            return check()
        except VerificationError:
            if _content(manifest) == before:
                raise


def _content(manifest: Place) -> bytes | None:
    return manifest.read_bytes() if manifest.is_file() else None


def _read_accepted(path: Place, manifest: Place) -> bytes:
    accepted = _accepted(path, manifest)
    with _readable(path, manifest):
        content = path.read_bytes()
    _require(path, accepted, digest(content))
    return content


@contextmanager
def _readable(path: Place, manifest: Place) -> Iterator[None]:
    try:
        yield
    except StorageError:  # a store that does not answer: nothing is known of what it holds
        raise
    except OSError as error:
        raise VerificationError(f"{path} cannot be read ({error.strerror}), though {manifest} names it") from error


def content_hash(manifest: Place) -> str:
    """The SHA-256 by which an artifact is known: its file's, or its manifest's where it has several."""
    lines = _read_manifest(manifest)
    return lines[0][0] if len({name for _, name in lines}) == 1 else sha256_of(manifest)


def sync_folder(folder: Path) -> None:
    """Make a rename or a new name inside `folder` survive a power cut."""
    _sync(folder)


def _put_folder(folder: StorePath, files: Mapping[str, bytes] | Fill, manifest: str) -> None:
    """Make the folder here as on any disk, then put what its manifest names, only where nothing is yet; it comes last.

    Two writers of one name meet at the first file: the second is refused.
    """
    with tempfile.TemporaryDirectory(prefix="nqcast-") as temporary:
        made = Path(temporary) / "made"
        write_folder(made, files, manifest)
        last = made / manifest
        for path in (*(last.parent / name for _, name in _read_manifest(last)), last):
            (folder / path.relative_to(made).as_posix()).write_bytes(path.read_bytes(), create=True)


def _put_file(path: StorePath, content: bytes | Fill) -> None:
    """Put the file between its two manifests; of two writers at once, the last to look names the file that is there."""
    with tempfile.TemporaryDirectory(prefix="nqcast-") as temporary:
        made, manifest = Path(temporary) / path.name, manifest_of(path)
        replace_verified_file(made, content)
        line = manifest_of(made).read_text(encoding="utf-8")
        if old := sorted(_present_lines(path) - {line}):
            manifest.write_bytes("".join([line, *old]).encode())
        tag = path.write_bytes(made.read_bytes())
        manifest.write_bytes(line.encode())
    while tag != (tag_there := path.tag()):
        tag = tag_there
        manifest.write_bytes(f"{sha256_of(path)}  {path.name}\n".encode())


@contextmanager
def _writing(target: Path, size: int) -> Iterator[Path]:
    """A temporary name beside `target`, of which nothing is left, for the only writer in the folder."""
    with storage_errors(target, size):
        target.parent.mkdir(parents=True, exist_ok=True)
        with one_writer(target.parent):
            _remove_rests(target.parent)
            require_free_space(target.parent, size)
            temporary = target.with_name(f".{target.name[:80]}.{secrets.token_hex(6)}.tmp")
            try:
                yield temporary
            finally:
                _remove(temporary)
            sync_folder(target.parent)


def _remove_rests(folder: Path) -> None:
    """Remove what killed writers left; whoever holds the folder's only writer knows that none of it is alive."""
    for rest in folder.iterdir():
        match = _TEMPORARY.match(rest.name)
        if match and rest.suffix == ".old" and not (folder / match["name"]).exists():
            rest.rename(folder / match["name"])
        elif match:
            _remove(rest)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write_through(path: Path, content: bytes) -> None:
    """Write a new file to the disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _synced(folder: Path) -> list[Path]:
    """All files below `folder`, on disk, in the order of their names."""
    found = sorted(folder.rglob("*"))
    for path in found:
        _sync(path)
    return [path for path in found if path.is_file()]


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _present_lines(path: Place) -> set[str]:
    """The manifest's lines for the file that is there; none where it cannot be proved anyway."""
    try:
        return {f"{line}  {name}\n" for line, name in _read_manifest(manifest_of(path))} if path.exists() else set()
    except VerificationError:
        return set()


def _accepted(path: Place, manifest: Place) -> list[str]:
    root: Any = manifest.parent
    name = path.relative_to(root).as_posix()
    accepted = [line for line, named in _read_manifest(manifest) if named == name]
    if not accepted:
        raise VerificationError(f"the manifest {manifest} has no line for {name}")
    return accepted


def _require(path: Place, accepted: list[str], found: str) -> None:
    if found not in accepted:
        raise VerificationError(f"{path}: expected SHA-256 {' or '.join(accepted)}, found {found}")


def _read_manifest(manifest: Place) -> list[tuple[str, str]]:
    try:
        lines = manifest.read_text(encoding="utf-8").splitlines()
    except StorageError:
        raise
    except OSError as error:
        raise VerificationError(f"its manifest {manifest} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise VerificationError(f"its manifest {manifest} is garbled ({error.reason})") from error
    matches = [_LINE.match(line) for line in lines]
    if not matches or not all(matches):
        raise VerificationError(f"its manifest {manifest} is garbled: expected lines '<sha256>  <file name>'")
    return [(match["digest"], match["name"]) for match in matches if match]

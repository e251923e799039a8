"""C++ parts of the model: built for this processor where they are first needed, and kept where only their user writes.

They lie beside Python's own bytecode, in the project's folder. Where others may write there, or nobody, they lie in the
user's cache folder; where there is none either, a library lives as long as its process.
"""

import ctypes
import importlib.util
import logging
import os
import shutil
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from nqcast.storage.fingerprint import digest

log = logging.getLogger(__name__)

# Fused multiply-adds, and no care for floating-point traps or errno; NaN and infinity keep their meaning.
_FLAGS = (
    "-O3 -march=native -std=gnu++17 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -fPIC -shared -w"
)
_SECONDS = 300.0
_ABANDONED = 3600.0  # seconds after which a folder in which a library was to be made belongs to no living compiler


class CannotBuildError(Exception):
    """Why there is no such library on this machine, in one line."""


class Library(ctypes.CDLL):
    """A loaded library; `key` tells of which code, constants, compiler and processor."""

    key = ""


def build(source: Path, constants: Mapping[str, int]) -> Library:
    """The library that `source` makes with these constants (preprocessor definitions), compiled where it is not yet.

    Its name holds a key made of the code with its headers, the constants, the compiler and the processor's
    instructions, and the digest of its own content: one that was cut short or changed is built again.

    Raises:
        CannotBuildError: no g++ (or what CXX names), it refuses the code, or the library cannot be written or loaded.
    """
    try:
        return _build(source, constants)
    except OSError as error:
        raise CannotBuildError(_one_line(f"{source.name} cannot be built or loaded: {error}")) from error


def _build(source: Path, constants: Mapping[str, int]) -> Library:
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise CannotBuildError("no C++ compiler: install g++, or let CXX name one")
    command = [compiler, *_FLAGS.split(), *(f"-D{name}={value}" for name, value in sorted(constants.items()))]
    # All predefined macros: version of the compiler and instructions of the processor.
    machine = _run([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    code = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    name = f"{source.stem}-{digest(chr(0).join([*code, *command, machine]).encode(), 16)}"
    folder = next(filter(_is_private, _folders(source)), None)
    library = (folder and _kept(folder, name)) or _made(command, source, folder, name)
    library.key = name
    return library


def _kept(folder: Path, name: str) -> Library | None:
    """The library of this name in the folder, where it is there as it was made."""
    for path in folder.glob(f"{name}-*.so"):
        if _is_whole(path):
            return Library(str(path))
        log.warning("%s is not as it was built, and is built again", path)
        path.unlink(missing_ok=True)
    return None


def _folders(source: Path) -> Iterator[Path]:
    """Where a library may be kept, the best place first."""
    yield Path(importlib.util.cache_from_source(str(source))).parent / "native"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    if cache.is_absolute():
        yield cache / "nqcast" / "native"


def _is_private(folder: Path) -> bool:
    """Whether the folder, made where it was not, is this user's own, and nobody else may write there."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return _is_own(folder)
    except OSError:  # a read-only installation, no home
        return False


def _is_own(path: Path) -> bool:
    status = path.lstat()
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _is_whole(library: Path) -> bool:
    """Whether a library is this user's and has the digest that its name says."""
    return _is_own(library) and library.stem.rpartition("-")[2] == digest(library.read_bytes(), 32)


def _made(command: list[str], source: Path, folder: Path | None, name: str) -> Library:
    """The library, compiled under another name, since processes may all build it at once; it is kept once it loads.

    Without a folder it is kept nowhere: the temporary one is gone before this returns, and what is loaded stays.
    """
    if folder is not None:
        _sweep(folder)
    _say_what_takes_time()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="making-", dir=folder) as own:
        made = Path(own) / "made.so"
        _run([*command, str(source), "-o", str(made)])
        made.chmod(0o700)
        library = Library(str(made))
        if folder is not None:
            made.replace(folder / f"{name}-{digest(made.read_bytes(), 32)}.so")
    log.debug("%s: built in %.1f s", source.name, time.perf_counter() - started)
    return library


@cache
def _say_what_takes_time() -> None:
    log.info("parts in C++ are built for this processor, once: some seconds")


def _sweep(folder: Path) -> None:
    """Take away what a killed process was making."""
    for rest in folder.glob("making-*"):
        if time.time() - rest.stat().st_mtime > _ABANDONED:
            shutil.rmtree(rest, ignore_errors=True)


def _run(command: list[str]) -> str:
    """What a command printed, whatever bytes it prints in."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuildError(_one_line(f"{command[0]} did not run: {error}")) from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise CannotBuildError(_one_line(f"{command[0]} refused it: {said[0] if said else done.returncode}"))
    return done.stdout


def _one_line(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:400]

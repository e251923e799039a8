"""C++ parts of the model: built for this processor where they are first needed, kept beside Python's own bytecode."""

from __future__ import annotations

import ctypes
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

log = logging.getLogger(__name__)

# Fused multiply-adds, and no care for floating-point traps or errno; NaN and infinity keep their meaning.
_FLAGS = (
    "-O3 -march=native -std=gnu++17 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fopenmp -fPIC -shared -w"
)
_SECONDS = 300.0


class CannotBuildError(Exception):
    """Why there is no such library on this machine."""


def build(source: Path, constants: Mapping[str, int]) -> ctypes.CDLL:
    """The library that `source` makes with these constants (preprocessor definitions), compiled where it is not yet.

    It is kept under a name made of the code with its headers, the constants, the compiler and the processor's
    instructions.

    Raises:
        CannotBuildError: no g++ (or what CXX names), or it refuses the code.
    """
    compiler = shutil.which(os.environ.get("CXX", "g++"))
    if compiler is None:
        raise CannotBuildError("no C++ compiler: install g++, or let CXX name one")
    command = [compiler, *_FLAGS.split(), *(f"-D{name}={value}" for name, value in sorted(constants.items()))]
    # All predefined macros: version of the compiler and instructions of the processor.
    machine = _run([compiler, "-march=native", "-dM", "-E", "-x", "c++", os.devnull])
    code = [path.read_text() for path in (source, *sorted(source.parent.glob("*.h")))]
    key = hashlib.sha256("\0".join([*code, *command, machine]).encode()).hexdigest()[:16]
    folder = Path(importlib.util.cache_from_source(str(source))).parent
    library = folder / f"{source.stem}-{key}.so"
    if not library.exists():
        library = _compile(command, source, library)
    return ctypes.CDLL(str(library))


class Address:
    """Where a contiguous tensor's numbers begin, for a call from Python, in which the tensor lives; null for None."""

    def __init__(self, tensor: Tensor | None) -> None:
        self.tensor = tensor
        self._as_parameter_ = ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def _compile(command: list[str], source: Path, library: Path) -> Path:
    """Under another name first: processes that start together may all build it."""
    try:
        library.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=library.parent))
    except OSError:  # a read-only installation: for this process alone
        folder = Path(tempfile.mkdtemp())
        library = folder / library.name
    started = time.perf_counter()
    made = folder / "made.so"
    try:
        _run([*command, str(source), "-o", str(made)])
        made.replace(library)
    finally:
        if library.parent != folder:
            shutil.rmtree(folder)
    log.info("%s: built for this processor in %.1f s", source.name, time.perf_counter() - started)
    return library


def _run(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotBuildError(f"{command[0]} did not run: {error}") from error
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        raise CannotBuildError(f"{command[0]} refused it: {said[0] if said else done.returncode}")
    return done.stdout

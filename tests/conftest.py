"""Fixtures that every test package shares."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.kedro_command import kedro, output_of

PROJECT = Path(__file__).resolve().parents[1]

os.environ["NQCAST_LOCAL"] = "base"  # a developer's own conf/local takes no part in the tests
os.environ.setdefault("OMP_NUM_THREADS", "1")  # as `make test` sets it: sums of two threads differ in last digits

# A job in the background of a script starts with SIGINT ignored, and so would every process that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The root of the checkout."""
    return PROJECT


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real NQ bars (kept beside the project, never inside it); skips where it is absent."""
    folder = Path(os.environ.get("NQCAST_REAL_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / "nq_1m_2015-06_2016-12.parquet").is_file():
        pytest.skip(
            f"no real bars in {folder}: put them there or set NQCAST_REAL_DATA to their folder to run this test"
        )
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """`made_once(name, make)` is the folder that `make` has filled, once for all workers; tests change copies of it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        folder, made = root / name, root / f"{name}.made"
        with (root / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not made.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a try that failed: the next one says why, too
                folder.mkdir()
                make(folder)
                made.touch()
        return folder

    return folder_of


@pytest.fixture(scope="session")
def toy_features(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A data folder in which the toy environment has made its bars and features."""
    chosen = ("run", "--env", "test", "--pipelines", "ingest,features")
    return made_once("toy features", lambda data: output_of(kedro(*chosen, data=data)))


@pytest.fixture(scope="session")
def toy_run(made_once: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Path, str]:
    """The data folder of a whole run of the toy environment, and what it printed on a terminal of 80 columns."""

    def run(folder: Path) -> None:
        done = kedro("run", "--env", "test", data=folder / "data", columns=80)
        assert done.returncode == 0, done.stdout + done.stderr
        (folder / "printed").write_text(done.stdout + done.stderr)

    folder = made_once("toy run", run)
    return folder / "data", (folder / "printed").read_text()

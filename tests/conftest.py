"""Fixtures that every test package shares."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

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

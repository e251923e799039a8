"""SIGKILL at any instant, and in the middle of writing a checkpoint, loses nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.kedro_command import PROJECT


@pytest.mark.slow
@pytest.mark.parametrize("where", ["anywhere", "writes"])
def test_twenty_killed_runs_go_on_to_twenty_bit_equal_ends(where: str) -> None:
    command = [sys.executable, "-W", "error", "-m", "tests.faults.killing", "--kills", "20", "--where", where]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == f"20 kills ({where}), 0 runs lost, 20 bit-equal ends\n"


@pytest.mark.slow
@pytest.mark.parametrize(("where", "kills"), [("saves", 12), ("two", 6), ("database", 4)])
def test_kills_of_savers_of_makers_of_databases_and_of_one_of_two_runs_lose_nothing(where: str, kills: int) -> None:
    command = [sys.executable, "-m", "tests.faults.killing", "--kills", str(kills), "--where", where]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    assert "0 runs lost" in done.stdout

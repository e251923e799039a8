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

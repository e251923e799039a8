"""SIGKILL at any instant, and in the middle of writing a checkpoint, loses nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.kedro_command import PROJECT


def killed(kinds: dict[str, int], *flags: str) -> list[tuple[int, str]]:
    """How many of each kind were killed, and what is said of them; one process imports, and forks who is killed.

    A kind is told of once all of its ends were asked for; the first loss ends the process.
    """
    kills = [str(number) for number in kinds.values()]
    command = [sys.executable, *flags, "-m", "tests.faults.killing", "--kills", *kills, "--where", *kinds]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    told = [line.split(" kills ", 1) for line in done.stdout.splitlines()]
    return [(int(number), rest) for number, rest in told]


@pytest.mark.slow
def test_twenty_killed_runs_go_on_to_twenty_bit_equal_ends() -> None:
    expected = [(20, f"({where}), 0 runs lost, 20 bit-equal ends") for where in ("anywhere", "writes")]
    assert killed({"anywhere": 20, "writes": 20}, "-W", "error") == expected


@pytest.mark.slow
def test_kills_of_savers_of_makers_of_databases_and_of_one_of_two_runs_lose_nothing() -> None:
    wanted = {"saves": 12, "two": 6, "database": 4}
    found = killed(wanted)
    assert [rest for _, rest in found] == [
        f"({where}), 0 runs lost, {number} bit-equal ends" for (number, _), where in zip(found, wanted, strict=True)
    ]
    assert all(number >= least for (number, _), least in zip(found, wanted.values(), strict=True))

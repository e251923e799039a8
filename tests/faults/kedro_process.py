"""A living `kedro run` that can be watched and sent signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.kedro_command import KEDRO, PROJECT, environment


class KedroProcess:
    """`kedro` with `arguments` and a data folder of its own; its output is read line by line.

    `held` names a place of training, "step" or "validation", in which the run announces itself and then waits.
    """

    def __init__(self, *arguments: str, data: Path, held: str = "") -> None:
        variables = {**environment(data), "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "tests.faults.slowed_kedro", held, "4"] if held else [str(KEDRO)]
        self.output = ""
        self._process = subprocess.Popen(
            [*command, *arguments],
            cwd=PROJECT,
            env=variables,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, text: str) -> None:
        """Read until a line holds `text`; fails with the output when the process ends first."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{self.output[-4000:]}")

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def end(self, timeout: float = 60) -> tuple[int, float]:
        """Exit status and the seconds until it came."""
        begun = time.monotonic()
        self.output += self._process.communicate(timeout=timeout)[0]
        return self._process.returncode, time.monotonic() - begun

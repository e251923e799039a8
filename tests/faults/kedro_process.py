"""A living `kedro run` that can be watched and sent signals."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import time
from pathlib import Path

from tests.kedro_command import KEDRO, environment, start_kedro


class KedroProcess:
    """`kedro` with `arguments` and a data folder of its own; its output is read line by line.

    `held` names a place of training, "step" or "validation", in which the run announces itself and then waits.
    """

    def __init__(self, *arguments: str, data: Path | str, held: str = "") -> None:
        self.output = ""
        self._folder = tempfile.TemporaryDirectory()
        pipe = Path(self._folder.name, "printed")
        os.mkfifo(pipe)
        self._process = start_kedro([str(KEDRO), *arguments], environment(data), (pipe, pipe), held=held)
        self._printed = pipe.open()  # waits until the run has opened its end

    def wait_for(self, text: str) -> None:
        """Read until a line holds `text`; fails with the output when the process ends first."""
        for line in self._printed:
            self.output += line
            if text in line:
                return
        raise AssertionError(f"{text!r} never came:\n{self.output[-4000:]}")

    def send(self, number: signal.Signals) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def end(self, timeout: float = 60) -> tuple[int | None, float]:
        """Exit status, negative for a signal that killed it, and the seconds until it came; fails after `timeout`."""
        begun, over = time.monotonic(), threading.Timer(timeout, self._process.kill)
        over.start()
        with self._folder, self._printed:
            self.output += self._printed.read()  # to the run's end
        self._process.join()
        over.cancel()
        seconds = time.monotonic() - begun
        assert seconds < timeout, f"the run had not ended after {timeout} seconds:\n{self.output[-4000:]}"
        return self._process.exitcode, seconds

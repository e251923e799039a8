"""SIGINT, SIGTERM and SIGHUP under `kedro run`: the step is finished, a checkpoint written, the way back printed."""

import os
import re
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from kedro.framework.hooks import hook_impl

from nqcast import stopping
from nqcast.redaction import redact

SIGNALS = (signal.SIGINT, signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))

CLOSING_SECONDS = 2.0
"""Longest wait for the tracked run to be closed when a second SIGINT ends the process."""


class SignalHook:
    """Installs handlers in the main thread for the time of a pipeline run.

    The first signal lets training finish its step and write a checkpoint; anything else ends where it stands, which
    is safe because every file is written whole or not at all. A second SIGINT ends the process at once, with
    two seconds at most for the tracked run to be closed as KILLED.
    """

    def __init__(self, close: Callable[[], None] = lambda: None) -> None:
        """`close` ends what must not stay open, such as the tracked run, before a process leaves without unwinding."""
        self._close = close
        self._previous: dict[int, Any] = {}
        self._nodes_in_threads = False

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any]) -> None:
        """Take the signals that nobody has taken: a handler of the user's own, or of nohup, stays."""
        self._restore()
        self._nodes_in_threads = "ThreadRunner" in str(run_params.get("runner"))
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                self._previous[number] = signal.signal(number, self._on_signal)

    @hook_impl
    def before_node_run(self) -> None:
        """A stop that a library swallowed is obeyed here at the latest."""
        stopping.leave_if_asked()

    @hook_impl
    def before_dataset_saved(self) -> None:
        """A stop that a library swallowed is obeyed before a node's results are written."""
        stopping.leave_if_asked()

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._restore()

    @hook_impl
    def on_pipeline_error(self) -> None:
        self._restore()

    def _restore(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number, handler in self._previous.items():
                signal.signal(number, handler)
            self._previous = {}
            stopping.forget()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stopping.asked() is not None and _is_over(frame):
            self._restore()
            signal.raise_signal(number)  # it means what it meant before the run
            return
        if stopping.asked() is not None:
            if number == signal.SIGINT:
                _say(f"\n{name} again: stopped at once. {_way_back()}\n")
                self._close_in_time()
                os._exit(128 + number)
            return
        if stopping.ask(number, lambda: _say(f"stopped by {name}. {_way_back()}\n")):
            _say(f"\n{name}: finishing the step and writing a checkpoint; Ctrl-C once more stops at once\n")
            return
        _say(f"\nstopped by {name}. {_way_back()}\n")
        if self._nodes_in_threads:  # their threads cannot be interrupted, and Python would wait for them
            self._close()
            os._exit(128 + number)
        raise stopping.RunStopped(number)

    def _close_in_time(self) -> None:
        """Close in a thread of its own: what this handler interrupted may hold a lock that closing needs."""
        closing = threading.Thread(target=self._close, daemon=True)
        closing.start()
        closing.join(CLOSING_SECONDS)


def _is_over(frame: FrameType | None) -> bool:
    """Whether a stopped run has ended and its process lives on, as that of a notebook or of a test does.

    Kedro calls no hook at such an end, so the stack is asked: below it the program of a process that leaves is gone.
    """
    names = []
    while frame is not None:
        names.append((str(frame.f_globals.get("__name__")).partition(".")[0], frame.f_code.co_name))
        frame = frame.f_back
    goes_on = bool(names) and names[-1][1] in ("<module>", "_run_module_as_main")
    return goes_on and not stopping.is_finishing() and "kedro" not in {package for package, _ in names}


def resume_command(arguments: list[str], environment: dict[str, str]) -> str:
    """The command that goes on where this one stopped: the same one, which must not start anew; no secret is in it."""
    program = "kedro" if Path(arguments[0]).name == "kedro" else "python -m nqcast"
    never = re.compile(r"\btrain\.resume\s*[=:]\s*never\b")
    rest = [redact(never.sub("train.resume=auto", argument)) for argument in arguments[1:]]
    names = [name for name in ("NQCAST_DATA", "NQCAST_WORK") if environment.get(name)]
    prefix = "".join(f"{name}={shlex.quote(environment[name])} " for name in names)
    return f"{prefix}{program} {shlex.join(rest)}".rstrip()


def _way_back() -> str:
    return f"This goes on from here: {resume_command(sys.argv, dict(os.environ))}"


def _say(text: str) -> None:
    """Write straight to the terminal: a handler may interrupt the logging module while it holds its lock."""
    os.write(2, text.encode(errors="replace"))

"""How a run is asked to stop and how it leaves; shared by the signal handlers and whoever finishes something first."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class RunStopped(SystemExit):
    """A signal ended the run; the exit status is 128 + its number: 130 SIGINT, 143 SIGTERM, 129 SIGHUP.

    No `Exception`: neither Kedro nor a library that catches those takes a stop for a failure of the node.
    """

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


LIMIT_CROSSED = 3
"""Exit status of a run that is complete and whose result is an alarm, such as a control limit that was crossed."""


FOLD_FAILED = 4
"""Exit status of a walk-forward that is complete but for the folds that failed; the others are scored."""


class RunAlarmed(SystemExit):
    """The run is complete, everything is written, and its result wants attention."""


class RunEndedError(RuntimeError):
    """A run cannot go on for a reason that its message explains; nothing in the program is broken."""


class TrainingInterruptedError(RuntimeError):
    """Training was asked to stop before its end: its checkpoint is no result yet."""


class _Asked:
    """The signal that has arrived, if any, and what is to be told of it."""

    number: int | None = None
    finishers: list[Callable[[], None]] = []  # noqa: RUF012 - one process has one set of signal handlers
    farewell: Callable[[], None] | None = None


def ask(number: int, farewell: Callable[[], None] | None = None) -> bool:
    """Note that signal `number` asks for an end; returns whether something is finished first.

    `farewell` is called once, when the run leaves after what was to be finished.
    """
    _Asked.number = number
    _Asked.farewell = farewell if _Asked.finishers else None
    for stop in list(_Asked.finishers):
        stop()
    return bool(_Asked.finishers)


def asked() -> int | None:
    """The signal that asked for an end, None before one does."""
    return _Asked.number


def forget() -> None:
    """Start over: a process may go through several runs."""
    _Asked.number = _Asked.farewell = None


def leave_if_asked() -> None:
    """Raise RunStopped once an end has been asked for."""
    if _Asked.number is None:
        return
    farewell, _Asked.farewell = _Asked.farewell, None
    if farewell is not None:
        farewell()
    raise RunStopped(_Asked.number)


def is_finishing() -> bool:
    """Whether something is being finished before the run may leave."""
    return bool(_Asked.finishers)


@contextmanager
def finishing(stop: Callable[[], None]) -> Iterator[None]:
    """Within this block a signal calls `stop`, which must only set a flag; the run ends when the block does.

    Raises RunStopped at the end of the block when a signal has come by then; an error of the block itself goes first.
    """
    _Asked.finishers.append(stop)
    if _Asked.number is not None:
        stop()
    try:
        yield
    finally:
        _Asked.finishers.remove(stop)
    leave_if_asked()

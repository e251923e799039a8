"""How a run of several ranks ends when it cannot go on: a hung rank's stack, or an error that a restart cannot cure.

What stands in the folder that the ranks share outlives them: restarted ranks read it first and leave.
"""

import faulthandler
import json
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from nqcast.storage.verified import replace_file

_ERROR, _STOP = "final_error.json", "stop"


class Watchdog:
    """Writes the stacks of all threads into stack_rank_<n>.txt and ends the process after `seconds` of silence."""

    def __init__(self, seconds: float, folder: Path, rank: int) -> None:
        self.seconds, self._alive_at = seconds, 0.0
        self._file = (folder / f"stack_rank_{rank}.txt").open("w", encoding="utf-8")

    def alive(self) -> None:
        """Begin to count anew; seldom done, since it starts a thread."""
        now = time.monotonic()
        if now - self._alive_at > self.seconds / 20:
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=self._file)
            self._alive_at = now

    def __enter__(self) -> "Watchdog":
        self.alive()
        return self

    def __exit__(self, *_: object) -> None:
        faulthandler.cancel_dump_traceback_later()
        self._file.close()


def note_final_error(folder: Path, message: str) -> None:
    """Keep an error after which starting again would be in vain."""
    replace_file(folder / _ERROR, json.dumps({"message": message}).encode())


def why_ended(folder: Path) -> str:
    """Why the run cannot go on, for people; empty where nothing says so."""
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((folder / _ERROR).read_bytes())["message"])
    stacks = [path for path in _stacks(folder) if path.stat().st_size]
    if not stacks:
        return ""
    names = ", ".join(str(path) for path in stacks)
    text = "\n".join(f"{path.stem}:\n{path.read_text(encoding='utf-8', errors='replace')}" for path in stacks)
    return (
        f"expected every rank to go on, found silence for longer than train.hang_minutes; what each was doing stands "
        f"in {names}; the same command goes on from the last checkpoint\n{text}"
    )


def forget_end(folder: Path) -> None:
    """Remove what an earlier launch left."""
    for path in (*_stacks(folder), folder / _ERROR, folder / _STOP):
        path.unlink(missing_ok=True)


def stop_flag(folder: Path) -> Path:
    """The file whose presence asks all ranks, on any host, to finish their step and write a checkpoint."""
    return folder / _STOP


def _stacks(folder: Path) -> Iterator[Path]:
    return iter(sorted(folder.glob("stack_rank_*.txt")))

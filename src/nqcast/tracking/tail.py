"""Copies new lines of the Trainer's metrics.jsonl into the spool, as they appear."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nqcast.tracking.spool import Spool

log = logging.getLogger(__name__)

_METRICS, _LOCK = "metrics.jsonl", ".lock"  # the run directory's names, see nqcast.training


class MetricsTail(threading.Thread):
    """A daemon thread that watches the run directories below given roots; local work only, it never waits long."""

    def __init__(self, spool: Spool, poll_interval: float, first: Callable[[], None] | None = None) -> None:
        """`first` is done in the thread before the first look."""
        super().__init__(name="nqcast-tracking-tail", daemon=True)
        self._spool = spool
        self._poll_interval = poll_interval
        self._first = first
        self._over = threading.Event()
        self._before: dict[Path, dict[Path, tuple[int, int]]] = {}
        self._offsets: dict[Path, int] = {}

    def watch(self, root: Path) -> None:
        """Follow every run directory below `root` whose metrics this run changes from now on."""
        self._before.setdefault(root, {path: _stamp(path) for path in root.glob(f"*/{_METRICS}")})

    def run(self) -> None:
        if self._first is not None:
            self._first()
        while not self._over.wait(self._poll_interval):
            self._look()

    def finish(self, timeout: float) -> None:
        """Stop the thread and copy what is left."""
        self._over.set()
        self.join(timeout)
        if not self.is_alive():
            self._look()

    def _look(self) -> None:
        try:
            for path in self._ours():
                self._copy_news(path)
        except OSError as error:  # a folder that goes away while it is looked at must not end the thread
            log.warning("tracking: metrics could not be copied to the spool: %s", error)

    def _ours(self) -> list[Path]:
        """Files that we follow, with those that have changed since we watch and that no other live run holds."""
        for root, before in list(self._before.items()):
            for path in sorted(root.glob(f"*/{_METRICS}")):
                if path not in self._offsets and _stamp(path) != before.get(path) and not _held_by_another(path.parent):
                    self._offsets[path] = 0
        return list(self._offsets)

    def _copy_news(self, path: Path) -> None:
        offset = self._offsets[path]
        size = path.stat().st_size
        if size < offset:  # started anew: its steps come again
            offset = 0
        if size == offset:
            return
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                offset += len(line)
                self._copy_line(path, line)
        self._offsets[path] = offset

    def _copy_line(self, path: Path, line: bytes) -> None:
        try:
            record = json.loads(line)
            step = int(record["step"])
        except (ValueError, KeyError, TypeError) as error:
            log.warning(
                "tracking: %s: expected a JSON object with a step, found %r: skipped (%s)", path, line[:80], error
            )
            return
        moment = record.get("time")
        stamp = int(1000 * moment) if isinstance(moment, int | float) else int(1000 * time.time())
        self._spool.append("metrics", step=step, time=stamp, values=numbers(record))


def numbers(record: dict[str, Any]) -> dict[str, float]:
    """The numeric values of a line, apart from its step and time."""
    return {
        str(name): float(value)
        for name, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("step", "time")
    }


def _stamp(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _held_by_another(folder: Path) -> bool:
    """Whether the folder's lock names a process that is neither this one nor one that it started."""
    try:
        holder = json.loads((folder / _LOCK).read_text(encoding="utf-8"))["pid"]
    except (OSError, ValueError, KeyError, TypeError):  # no lock, or given back
        return False
    return holder != os.getpid() and _parent_of(int(holder)) != os.getpid()


def _parent_of(pid: int) -> int | None:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:  # gone, or a system without /proc
        return None
    return int(fields[1])

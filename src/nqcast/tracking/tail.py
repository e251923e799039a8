"""Copies new lines of the Trainer's metrics.jsonl into the spool, as they appear."""

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nqcast.tracking.flatten import flatten_parameters
from nqcast.tracking.nested import NestedRun, NestedRuns
from nqcast.tracking.spool import Spool
from nqcast.tracking.system import SystemSampler
from nqcast.tracking.tensorboard import TensorBoardRuns
from nqcast.training.loggers import numbers

log = logging.getLogger(__name__)

_METRICS, _LOCK = "metrics.jsonl", ".lock"  # the run directory's names, see nqcast.training


class MetricsTail(threading.Thread):
    """A daemon thread that watches the run directories below given roots; local work only, it never waits long."""

    def __init__(
        self,
        spool: Spool,
        poll_interval: float,
        first: Callable[[], None] | None = None,
        system_interval: float | None = None,
        tensorboard: TensorBoardRuns | None = None,
    ) -> None:
        """
        Args:
            spool: where the lines go.
            poll_interval: pause between two looks, in seconds.
            first: is done in the thread before the first look.
            system_interval: pause between two samples of the system metrics, in seconds; None takes none.
            tensorboard: gets the same metrics.
        """
        super().__init__(name="nqcast-tracking-tail", daemon=True)
        self._spool = spool
        self._poll_interval = poll_interval
        self._first = first
        self._over = threading.Event()
        self._before: dict[Path, dict[Path, tuple[int, int]]] = {}
        self._offsets: dict[Path, int] = {}
        self._nested: dict[Path, NestedRuns] = {}
        self._system_interval, self._tensorboard = system_interval, tensorboard
        self._samples, self._next_sample = 0, time.monotonic()

    def watch_nested(self, root: Path) -> None:
        """Follow every nested run below `root` that begins or changes from now on."""
        self._nested.setdefault(root, NestedRuns(root))

    def watch(self, root: Path) -> None:
        """Follow every run directory below `root` whose metrics this run changes from now on."""
        self._before.setdefault(root, {path: _stamp(path) for path in root.glob(f"*/{_METRICS}")})

    def run(self) -> None:
        if self._first is not None:
            self._first()
        sampler = SystemSampler() if self._system_interval is not None else None
        while not self._over.wait(self._poll_interval):
            self._look()
            if sampler is not None and time.monotonic() >= self._next_sample:
                self._sample(sampler)

    def finish(self, timeout: float) -> None:
        """Stop the thread and copy what is left."""
        self._over.set()
        self.join(timeout)
        if not self.is_alive():
            self._look()
        if self._tensorboard is not None:
            self._tensorboard.close()

    def _look(self) -> None:
        try:
            for path in self._ours():
                self._copy_news(path)
            for nested in list(self._nested.values()):
                for run, new in nested.look():
                    self._copy_nested(run, new)
        except OSError as error:  # a folder that goes away while it is looked at must not end the thread
            log.warning("tracking: metrics could not be copied to the spool: %s", error)

    def _sample(self, sampler: SystemSampler) -> None:
        self._next_sample = time.monotonic() + (self._system_interval or 0.0)
        try:
            self._spool.append("metrics", step=self._samples, time=int(1000 * time.time()), values=sampler.sample())
        except OSError as error:
            log.warning("tracking: system metrics could not be written to the spool: %s", error)
        self._samples += 1

    def _copy_nested(self, run: NestedRun, new: bool) -> None:
        card, key = run.card, run.key
        if new:
            self._spool.append("start", child=key, name=card["name"], tags=card["tags"], time=card["started"])
            self._spool.append("params", child=key, values=flatten_parameters(card["parameters"]))
        for path in sorted(run.folder.glob(f"*/{_METRICS}")):
            self._offsets.setdefault(path, 0)
            self._copy_news(path, key)
        if run.ended:
            stamp = card.get("ended", card["started"])
            self._spool.append("tags", child=key, values=card["tags"])
            self._spool.append(
                "metrics", child=key, step=0, time=stamp, values=_named("best_", card.get("metrics", {}))
            )
            self._spool.append("end", child=key, status=card["status"], time=stamp)

    def _ours(self) -> list[Path]:
        """Files that we follow, with those that have changed since we watch and that no other live run holds."""
        for root, before in list(self._before.items()):
            for path in sorted(root.glob(f"*/{_METRICS}")):
                if path not in self._offsets and _stamp(path) != before.get(path) and not _held_by_another(path.parent):
                    self._offsets[path] = 0
        return [path for path in self._offsets if any(path.is_relative_to(root) for root in self._before)]

    def _copy_news(self, path: Path, child: str | None = None) -> None:
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
                self._copy_line(path, line, child)
        self._offsets[path] = offset

    def _copy_line(self, path: Path, line: bytes, child: str | None) -> None:
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
        values, address = numbers(record), {} if child is None else {"child": child}
        self._spool.append("metrics", **address, step=step, time=stamp, values=values)
        if self._tensorboard is not None:
            self._tensorboard.log(child or path.parent.name, values, step, stamp / 1000)


def _named(prefix: str, values: dict[str, Any]) -> dict[str, float]:
    return {f"{prefix}{name}": float(value) for name, value in values.items()}


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

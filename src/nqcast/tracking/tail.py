"""What a run does not report itself: lines that a Trainer adds to its metrics.jsonl, and memory and load."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from nqcast.tracking.spool import Fields, Spool
from nqcast.training.loggers import METRICS_NAME, TensorBoardLogger, needed, numbers

if TYPE_CHECKING:
    from mlflow.system_metrics.metrics.base_metrics_monitor import BaseMetricsMonitor

log = logging.getLogger(__name__)


@dataclass
class _Followed:
    """One metrics file: how far it has been copied, and whose metrics they are."""

    offset: int = 0
    child: str | None = None


class MetricsTail:
    """Copies new lines of the metrics files that it follows into the spool; local work, which never waits long."""

    def __init__(self, spool: Spool, curves: Sequence[str] = ("*",), boards: TensorBoardRuns | None = None) -> None:
        """
        Args:
            spool: where the lines go.
            curves: patterns of the names that go there; the others stay in the file.
            boards: gets every metric.
        """
        self._spool, self._curves, self._boards = spool, tuple(curves), boards
        self._files: dict[Path, _Followed] = {}
        self._looking = threading.Lock()

    def follow(self, directory: Path, child: str | None = None) -> None:
        """Copy the metrics of a run directory: those that are there, and those that come.

        Args:
            directory: the run's own; no other's metrics are read.
            child: key of the nested run whose metrics they are; None is the tracked run itself.
        """
        path = directory.absolute() / METRICS_NAME
        if path in self._files:
            return
        self._files[path] = _Followed(child=child)
        fields: Fields = {**self._address(path), "curves": list(self._curves)}
        self._spool.append("follow", **fields)

    def take_up(self) -> None:
        """Follow the files that a dead process followed into this spool, from where it stopped."""
        for line, _ in self._spool.read(0):
            if "file" in line and line["kind"] in ("follow", "metrics"):
                path = Path(os.path.normpath(self._spool.home / line["file"]))
                self._files[path] = _Followed(line.get("at", 0), line.get("child"))
                self._curves = tuple(line.get("curves", self._curves))

    def look(self) -> None:
        """Copy what has come since the last look."""
        with self._looking:
            for path, followed in list(self._files.items()):
                self._copy_news(path, followed)

    def close(self) -> None:
        if self._boards is not None:
            self._boards.close()

    def _address(self, path: Path) -> Fields:
        fields: Fields = {"file": os.path.relpath(path, self._spool.home)}
        child = self._files[path].child
        return fields if child is None else {**fields, "child": child}

    def _copy_news(self, path: Path, followed: _Followed) -> None:
        try:
            opened = path.open("rb")
        except FileNotFoundError:  # not there yet, or moved aside between two looks
            return
        with opened as file:
            size = os.fstat(file.fileno()).st_size
            if size < followed.offset:  # started anew: its steps come again
                followed.offset = 0
            file.seek(followed.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                followed.offset += len(line)
                self._copy_line(path, line, followed)

    def _copy_line(self, path: Path, line: bytes, followed: _Followed) -> None:
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
        values = numbers(record)
        chosen = {name: v for name, v in values.items() if any(fnmatchcase(name, curve) for curve in self._curves)}
        fields: Fields = {**self._address(path), "at": followed.offset, "step": step, "time": stamp, "values": chosen}
        self._spool.append("metrics", **fields)
        if self._boards is not None:
            self._boards.log(followed.child or path.parent.name, values, step, stamp / 1000)


class TensorBoardRuns:
    """Metrics for TensorBoard, one folder per run below `root`: `tensorboard --logdir ROOT` shows them.

    Raises MissingLoggerError, a ValueError, where tensorboard is not installed.
    """

    def __init__(self, root: Path) -> None:
        needed("tensorboard", "tensorboard", "tracking.tensorboard")
        self._root = root
        self._writers: dict[str, TensorBoardLogger] = {}
        self._broken = False

    def log(self, run: str, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Add one step of `run`; trouble with the files ends this log, not the run."""
        if self._broken:
            return
        try:
            self._writers[run] = self._writers.get(run) or TensorBoardLogger(self._root / run)
            self._writers[run].log(values, step, seconds)
        except OSError as error:
            self._broken = True
            log.warning("tracking: TensorBoard's files cannot be written, the run goes on without them: %s", error)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


class SystemSamples:
    """Memory and load under the names of MLflow's page of system metrics, by MLflow's own monitors where they work.

    Of this process: system/process_memory_megabytes, process_peak_memory_megabytes (resident) and
    process_cpu_percentage (100 is one core). Of the machine, with psutil: cpu_utilization_percentage and
    system_memory_usage_*; with nvidia-ml-py, of each GPU: memory, utilization and power.
    """

    def __init__(self) -> None:
        self._before = time.monotonic(), sum(os.times()[:4])
        self._monitors = [*_monitor("cpu_monitor", "CPUMonitor"), *_monitor("gpu_monitor", "GPUMonitor")]

    def sample(self) -> dict[str, float]:
        """Memory and load as they are now; percentages are of the time since the last sample."""
        (began, spent), self._before = self._before, (time.monotonic(), sum(os.times()[:4]))
        load = 100 * (self._before[1] - spent) / max(self._before[0] - began, 1e-9)
        values = {**_memory(), "process_cpu_percentage": load}
        for monitor in self._monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        return {f"system/{name}": float(value) for name, value in values.items()}


def _monitor(module: str, name: str) -> list[BaseMetricsMonitor]:
    """MLflow's monitor of that name, or none where it does not work."""
    try:
        return [getattr(importlib.import_module(f"mlflow.system_metrics.metrics.{module}"), name)()]
    except Exception as error:  # psutil or nvidia-ml-py is not installed, or there is no such device
        log.debug("tracking: no figures of MLflow's %s: %s", name, error)
        return []


def _memory() -> dict[str, float]:
    """Resident memory of this process in MB, now (Linux) and at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"process_peak_memory_megabytes": peak / 1e6}
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:  # a system without /proc
        return found
    return {**found, "process_memory_megabytes": pages * os.sysconf("SC_PAGE_SIZE") / 1e6}

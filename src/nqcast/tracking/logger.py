"""One tracked run, from its start to its end: its spool, the one thread that carries the news on, and MlflowLogger."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Unpack

from nqcast.redaction import redact
from nqcast.storage.place import Place
from nqcast.storage.verified import manifest_of
from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.facts import flatten_parameters, git_tags
from nqcast.tracking.replay import Delivery, end_dead_runs, send_waiting
from nqcast.tracking.spool import Fields, Spool
from nqcast.tracking.store import Destination, MlflowStore, destination
from nqcast.tracking.tail import MetricsTail, SystemSamples, TensorBoardRuns
from nqcast.training.loggers import numbers

log = logging.getLogger(__name__)

# Importing mlflow and making a new SQLite store take seconds, which is slow but no outage.
_LOCAL_WAIT = 60.0
_LONGEST_PAUSE = 30.0  # seconds between two tries during an outage


class TrackedRun:
    """Writes a run's news to its spool at once; one thread carries them on. Nothing here raises into the run."""

    def __init__(
        self,
        folder: Path,
        name: str,
        config: TrackingConfig,
        project: Path,
        connect: Callable[[Destination, float], MlflowStore] = MlflowStore,
    ) -> None:
        """
        Args:
            folder: the tracking folder; the spool lies there, named by `name`.
            config: where and how.
            project: whose commit is noted.
            connect: makes the store of a place, with the longest wait for an answer in seconds.

        Raises:
            OSError: no spool can be made.
            ValueError: TensorBoard is asked for and missing.
        """
        boards = TensorBoardRuns(folder / "tensorboard") if config.tensorboard else None
        self._folder, self._config, self._project, self._connect = folder, config, project, connect
        self._place = destination(folder, os.environ.get("MLFLOW_TRACKING_URI") or config.uri)
        self._spool = Spool.create(folder / "spool", name)
        self._tail = MetricsTail(self._spool, config.curves, boards)
        self._delivery = Delivery(self._spool, self._place.shown, self._acknowledged)
        self._store: MlflowStore | None = None
        self._system: SystemSamples | None = None
        self._samples, self._next_sample = 0, time.monotonic()
        self._roots: set[Path] = set()
        self._child: str | None = None
        self._broken = False
        self._said: set[str] = set()
        self._wake, self._finished = threading.Event(), threading.Event()
        self._last_answer = -float("inf")  # time.monotonic() of the store's latest acknowledgement
        self._last_error: str | None = None
        self._thread = threading.Thread(target=self._work, name="nqcast-tracking", daemon=True)

    def start(self, name: str, tags: dict[str, str]) -> None:
        """Open the run under its name. Runs whose process died get their end first, before this one writes."""
        self._safely("runs that were killed", lambda: end_dead_runs(self._folder))
        experiment = self._config.experiment or "nqcast"
        self.record("start", name=name, experiment=experiment, tags=tags, time=_now(), uri=self._place.noted)
        self._thread.start()

    def record(self, kind: str, **fields: Unpack[Fields]) -> None:
        """Add one line to the spool, of a kind that `nqcast.tracking.spool.Fields` describes."""
        if self._broken:
            return
        try:
            self._spool.append(kind, **fields)
        except OSError as error:
            self._broken = True
            log.warning("tracking: the spool cannot be written, the run goes on untracked: %s", error)

    def tags(self, values: dict[str, str]) -> None:
        if values:
            self.record("tags", values=values)

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        if values:
            self.record("metrics", step=step, time=_now(), values=values)

    def artifact(self, path: Place) -> None:
        """Keep `path` as it is now and send it."""
        self._keep(path, then=lambda name: self.record("artifact", file=name))

    def model(self, checkpoint: Place, calibration: Place, recipe: str) -> None:
        """Keep a checkpoint folder with its calibration, to be registered as a model that `recipe` has made."""
        beside = calibration, manifest_of(calibration)
        self._keep(checkpoint, *beside, then=lambda name: self.registered("model", recipe=recipe, file=name))

    def registered(self, kind: str, **fields: Unpack[Fields]) -> None:
        """Note what concerns the registered model: a version of it, or the loss of a recipe over the folds."""
        name, promote = self._config.registered_model or "nqcast", self._config.promote
        noted: Fields = {**fields, "name": name, "promote": promote}
        self.record(kind, **noted)

    def watch(self, root: Path) -> None:
        """Let the run directories directly below `root`, once they are followed, be this run's own."""
        self._roots.add(root.absolute())

    def follow(self, directory: Path) -> None:
        """Show the metrics of a run directory, where it is this run's own or the nested run's that is open."""
        if self._child is not None or directory.absolute().parent in self._roots:
            self._safely("metrics", lambda: self._tail.follow(directory, self._child))

    @contextmanager
    def nested(self, run: NestedRun) -> Iterator[None]:
        """Track a run inside this one while the block lasts."""
        self._child = run.key
        self.record("start", child=run.key, name=run.name, tags=run.tags, time=_now())
        self.record("params", child=run.key, values=flatten_parameters(run.parameters))
        status = "KILLED"  # what a stop leaves
        try:
            yield
            status = "FAILED" if run.failed else "FINISHED"
        except Exception:
            status = "FAILED"
            raise
        finally:
            self._child = None
            self._safely("metrics", self._tail.look)
            self.record("tags", child=run.key, values=run.tags)
            self.record("metrics", child=run.key, step=0, time=_now(), values=run.metrics)
            self.record("end", child=run.key, status=status, time=_now())

    def close(self, status: str) -> None:
        """End the run (FINISHED, FAILED or KILLED) and wait a little for the store; the rest waits for the next run."""
        self._safely("metrics", self._tail.look)
        self._safely("TensorBoard", self._tail.close)
        self.record("end", status=status, time=_now())
        self._broken = True  # nothing comes after the end
        self._wake.set()
        if not self._wait_for_store() and not self._delivery.sent_all:
            log.warning(
                "tracking: %d lines have not reached %s (%s); they wait in %s, and the next run or "
                "`make replay-metrics` sends them",
                self._delivery.unsent_lines(),
                self._place.shown,
                self._last_error or "no answer in time",
                self._spool.folder,
            )

    def _work(self) -> None:
        """Copy, sample and send until the end line has arrived; then send what earlier runs have left."""
        self._safely("git", lambda: self.tags(git_tags(self._project)))
        failures, next_try = 0, time.monotonic()
        while not self._delivery.sent_all:
            self._safely("metrics", self._tail.look)
            self._safely("system metrics", self._sample)
            if time.monotonic() >= next_try or self._wake.is_set():
                self._wake.clear()
                failures = 0 if self._send() else failures + 1
                next_try = time.monotonic() + min(_LONGEST_PAUSE, self._config.poll_interval * 2**failures)
            if not self._delivery.sent_all:
                self._wake.wait(self._config.poll_interval)
        self._spool.remove()
        wait, place, answered = self._config.request_timeout, self._place, self._acknowledged
        self._safely("what waits", lambda: send_waiting(self._folder, None, wait, place, answered))
        self._finished.set()

    def _sample(self) -> None:
        """Memory and load every `system_interval` seconds, where that is asked for."""
        if self._config.system_metrics and time.monotonic() >= self._next_sample:
            self._next_sample = time.monotonic() + self._config.system_interval
            self._system = self._system or SystemSamples()
            self.metrics(self._system.sample(), self._samples)
            self._samples += 1

    def _send(self) -> bool:
        """Send what is waiting; False where the store does not take it."""
        try:
            self._store = self._store or self._connect(self._place, self._config.request_timeout)
            self._delivery.send_news(self._store)
        except Exception as error:  # whatever MLflow, its database or the network raise: the run goes on
            first = self._last_error is None
            self._last_error = redact(f"{type(error).__name__}: {error}").splitlines()[0][:300]
            level = logging.WARNING if first else logging.DEBUG
            news = "the store does not answer, the run goes on and its news wait"
            log.log(level, "tracking: %s: %s", news, self._last_error)
            return False
        self._last_error = None
        return True

    def _acknowledged(self) -> None:
        self._last_answer = time.monotonic()

    def _wait_for_store(self) -> bool:
        """Wait while the store answers; a silent one gets `final_wait` seconds, a local one the time to be made."""
        begun = time.monotonic()
        while not self._finished.wait(0.02):
            now = time.monotonic()
            patience = _LOCAL_WAIT if self._place.is_local and self._last_error is None else self._config.final_wait
            if now - max(begun, self._last_answer) > patience or now - begun > _LOCAL_WAIT:
                return False
        return True

    def _keep(self, path: Place, *beside: Place, then: Callable[[str], None]) -> None:
        try:
            name = self._spool.keep(path, *beside)
        except OSError as error:
            log.warning("tracking: %s could not be kept for the store: %s", path, error)
        else:
            then(name)

    def _safely(self, what: str, step: Callable[[], object]) -> None:
        """Do one step; an error of it is told once and ends neither the run nor the thread."""
        try:
            step()
        except Exception as error:
            level = logging.DEBUG if what in self._said else logging.WARNING
            self._said.add(what)
            log.log(level, "tracking: %s are left out for now: %s", what, redact(f"{type(error).__name__}: {error}"))


class NestedRun:
    """A run inside the tracked run, such as a trial: what is tried before it begins, what came of it before its end."""

    def __init__(self, key: str, name: str, parameters: Mapping[str, object], tags: Mapping[str, str]) -> None:
        self.key, self.name, self.parameters, self.tags = key, name, parameters, dict(tags)
        self.metrics: dict[str, float] = {}
        self.failed = False


_active: list[TrackedRun] = []


def activate(run: TrackedRun | None) -> None:
    """Let `run` be the one that whatever runs in this process reports to; None ends that."""
    _active[:] = [] if run is None else [run]


def follow(directory: Path) -> None:
    """Show the metrics of a run directory in the tracked run of this process, if there is one."""
    for run in _active:
        run.follow(directory)


@contextmanager
def nested(run: NestedRun) -> Iterator[NestedRun]:
    """Track `run` inside the tracked run of this process, if there is one, while the block lasts."""
    if not _active:
        yield run
        return
    with _active[0].nested(run):
        yield run


class MlflowLogger:
    """`with MlflowLogger(...) as logger: Trainer(..., logger=logger).train()`, without Kedro.

    Metrics go to a spool in `folder` and from there to MLflow in a thread of their own, as in a Kedro run: a store that
    is down slows nothing, and the next run or `make replay-metrics` sends what it missed.

    Args:
        folder: where the spool lies and, by default, the SQLite store mlflow.db.
        name: name of the run.
        parameters: logged once, flattened, secrets left out.
        uri: tracking URI; MLFLOW_TRACKING_URI wins over it.
        experiment: MLflow experiment of the run.
    """

    def __init__(
        self,
        folder: Path | str = "data/09_tracking",
        name: str = "training",
        parameters: Mapping[str, object] | None = None,
        uri: str | None = None,
        experiment: str = "nqcast",
    ) -> None:
        config = TrackingConfig(experiment=experiment, uri=uri, system_metrics=False)
        self._run: TrackedRun | None = TrackedRun(Path(folder), name, config, Path.cwd())
        self._run.start(name, {})
        self._run.record("params", values=flatten_parameters(parameters or {}))

    def log(self, values: Mapping[str, object], step: int) -> None:
        """Keep the finite numbers of `values`; returns at once."""
        if self._run is not None:
            found = numbers(values)
            self._run.metrics({name: value for name, value in found.items() if math.isfinite(value)}, step)

    def close(self, status: str = "FINISHED") -> None:
        """End the run (FINISHED, FAILED or KILLED) and wait a little for the store."""
        run, self._run = self._run, None
        if run is not None:
            run.close(status)

    def __enter__(self) -> MlflowLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = kind is not None and not issubclass(kind, Exception)
        self.close("KILLED" if killed else "FINISHED" if kind is None else "FAILED")


def _now() -> int:
    return int(1000 * time.time())

"""One tracked run, from its start to its end."""

import logging
import time
from pathlib import Path
from typing import Any

from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.provenance import git_tags
from nqcast.tracking.sender import Sender
from nqcast.tracking.spool import Spool
from nqcast.tracking.store import Destination, MlflowStore
from nqcast.tracking.tail import MetricsTail
from nqcast.tracking.tensorboard import TensorBoardRuns

log = logging.getLogger(__name__)

# Importing mlflow and making a new SQLite store take seconds, which is slow but no outage.
_LOCAL_WAIT = 60.0


class TrackingSession:
    """Writes a run's news to its spool at once; two threads carry them on. Nothing here raises into the run."""

    def __init__(
        self,
        spool: Spool,
        place: Destination,
        config: TrackingConfig,
        project: Path,
        tensorboard: TensorBoardRuns | None = None,
    ) -> None:
        self._spool = spool
        self._place = place
        self._config = config
        self._broken = False
        self._tail = MetricsTail(
            spool,
            config.poll_interval,
            first=lambda: self.tags(git_tags(project)),
            system_interval=config.system_interval if config.system_metrics else None,
            tensorboard=tensorboard,
        )
        self._sender = Sender(
            spool, place.shown, lambda: MlflowStore(place, config.request_timeout), config.poll_interval
        )

    def start(self, name: str, experiment: str, tags: dict[str, str]) -> None:
        uri = self._place.uri if self._place.uri == self._place.shown else None  # credentials are never written
        artifacts = str(self._place.artifacts) if self._place.artifacts else None
        self._record("start", name=name, experiment=experiment, tags=tags, time=_now(), uri=uri, artifacts=artifacts)
        self._tail.start()
        self._sender.start()

    def params(self, values: dict[str, str]) -> None:
        self._record("params", values=values)

    def tags(self, values: dict[str, str]) -> None:
        if values:
            self._record("tags", values=values)

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        if values:
            self._record("metrics", step=step, time=_now(), values=values)

    def artifact(self, path: Path) -> None:
        """Keep `path` as it is now and send it."""
        try:
            name = self._spool.keep_file(path)
        except OSError as error:
            log.warning("tracking: %s could not be kept as an artifact: %s", path, error)
            return
        self._record("artifact", file=name)

    def model(self, checkpoint: Path, calibration: Path, recipe: str) -> None:
        """Keep a checkpoint folder with its calibration, and have them registered as a model made by `recipe`."""
        try:
            name = self._spool.keep_file(checkpoint)
            self._spool.keep_beside(name, [calibration, calibration.with_name(f"{calibration.name}.sha256")])
        except OSError as error:
            log.warning("tracking: %s could not be kept as a model: %s", checkpoint, error)
            return
        c = self._config
        self._record("model", file=name, name=c.registered_model, promote=c.promote, recipe=recipe)

    def walk_forward(self, recipe: str, loss: float, anchors: str) -> None:
        """Note a recipe's out-of-sample loss over the folds; it may make another version the champion."""
        c = self._config
        fields = {"recipe": recipe, "loss": loss, "anchors": anchors}
        self._record("walk_forward", name=c.registered_model, promote=c.promote, **fields)

    def watch(self, root: Path) -> None:
        """Follow the Trainer's metrics below `root`."""
        self._tail.watch(root)

    def watch_nested(self, root: Path) -> None:
        """Follow the runs inside this one below `root`, each with its parameters, metrics and end."""
        self._tail.watch_nested(root)

    def close(self, status: str) -> None:
        """End the run (FINISHED, FAILED or KILLED) and wait a little for the store; the rest waits for a replay."""
        self._tail.finish(timeout=1.0)
        self._record("end", status=status, time=_now())
        self._sender.hurry()
        if not self._wait_for_store():
            log.warning(
                "tracking: %d lines have not reached %s (%s); they wait in %s and `make replay-metrics` sends them",
                self._sender.delivery.unsent_lines(),
                self._place.shown,
                self._sender.last_error or "no answer in time",
                self._spool.folder,
            )

    def _wait_for_store(self) -> bool:
        """Wait while the store answers; a silent one gets `final_wait` seconds, a local one the time to be made."""
        begun = time.monotonic()
        while not self._sender.finished.wait(0.02):
            now = time.monotonic()
            patience = (
                _LOCAL_WAIT if self._place.is_local and self._sender.last_error is None else self._config.final_wait
            )
            silent_since = max(begun, self._sender.delivery.last_answer)
            if now - silent_since > patience or now - begun > _LOCAL_WAIT:
                return False
        return True

    def _record(self, kind: str, **fields: Any) -> None:
        if self._broken:
            return
        try:
            self._spool.append(kind, **fields)
        except OSError as error:
            self._broken = True
            log.warning("tracking: the spool cannot be written, the run goes on untracked: %s", error)


def _now() -> int:
    return int(1000 * time.time())

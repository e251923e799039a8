"""The Kedro hook that tracks runs. Importing it imports no mlflow: `kedro registry list` stays quick."""

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol

import nqcast
from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.flatten import flatten_metrics, flatten_parameters, redact, shorten
from nqcast.tracking.provenance import (
    RECIPE_TAG,
    data_tags,
    fingerprint_tags,
    recipe_fingerprint,
    run_tags,
    walk_forward_loss,
)
from nqcast.tracking.session import TrackingSession
from nqcast.tracking.spool import Spool
from nqcast.tracking.store import destination
from nqcast.tracking.tensorboard import TensorBoardRuns

log = logging.getLogger(__name__)

FOLDER = "09_tracking"


class TrackingHook:
    """Tracks every `kedro run`: parameters, tags, live metrics, chosen catalog entries, and how it ended.

    A catalog entry is sent at its save when its metadata say so: `metadata: {nqcast: {mlflow: metrics}}`, `artifact`,
    `model` (a calibration: it is registered together with the checkpoint), `walk_forward` (scores that may promote a
    registered model), or a list of them. `nested_runs` follows the runs below a directory as runs inside this one.
    """

    def __init__(self, complete: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> None:
        """`complete` may add the defaults to the parameters as the user wrote them."""
        self._complete = complete
        self._context: KedroContext | None = None
        self._catalog: CatalogProtocol | None = None
        self._session: TrackingSession | None = None
        self._registers = False
        self._recipe = ""
        self._restore_signal: Callable[[], None] | None = None

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, Any], catalog: CatalogProtocol) -> None:
        """Open the run's spool and start its threads."""
        self._finish("KILLED")  # one that a notebook interrupted
        if self._context is None:
            return
        parameters = self._context.params
        config = TrackingConfig(**parameters.get("tracking") or {})
        if not config.enabled:
            return
        folder = self._data_folder() / FOLDER
        boards = TensorBoardRuns(folder / "tensorboard") if config.tensorboard else None
        complete = self._complete(parameters) if self._complete else parameters
        own = (complete.get("features") or {}).get("own")  # a registered model is served without these files
        self._registers = config.register_model and not own
        self._recipe = recipe_fingerprint(complete)
        tags = {**run_tags(run_params, nqcast.__version__), RECIPE_TAG: self._recipe}
        try:
            spool = Spool.create(folder / "spool", tags.get("kedro.session_id", "run"))
        except OSError as error:
            log.warning("tracking: no spool can be made in %s, the run goes on untracked: %s", folder, error)
            return
        self._catalog = catalog
        self._session = TrackingSession(spool, destination(folder, config.uri), config, self._project(), boards)
        self._session.start(f"{tags['kedro.pipeline']} {tags.get('kedro.session_id', '')}", config.experiment, tags)
        self._session.params(flatten_parameters(complete))
        self._restore_signal = _exit_on_sigterm()
        atexit.register(self._finish, "KILLED")

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: Any) -> None:
        """Note the version of what is read; follow the metrics below a run directory."""
        if self._session is None:
            return
        if isinstance(data, Path) and dataset_name == "run_directory":
            self._session.watch(data)
        if isinstance(data, Path) and "nested_runs" in self._wishes(dataset_name):
            self._session.watch_nested(data)
        self._session.tags(data_tags(dataset_name, self._facts(dataset_name, saved=False)))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: Any) -> None:
        """Note the version of what was written; send it where its metadata say so."""
        if self._session is None:
            return
        facts = self._facts(dataset_name, saved=True)
        self._session.tags({**data_tags(dataset_name, facts), **fingerprint_tags(data)})
        wishes = self._wishes(dataset_name)
        if "metrics" in wishes:
            self._session.metrics(flatten_metrics(dataset_name, data))
        if "artifact" in wishes and "path" in facts:
            self._session.artifact(Path(facts["path"]))
        checkpoint = self._facts("checkpoint", saved=False) if "model" in wishes and self._registers else {}
        if "path" in checkpoint and "path" in facts:
            self._session.model(Path(checkpoint["path"]), Path(facts["path"]), self._recipe)
        if "walk_forward" in wishes and self._registers:
            self._session.walk_forward(self._recipe, *walk_forward_loss(data))

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._finish("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        if self._session is not None:
            self._session.tags({"error": shorten(redact(f"{type(error).__name__}: {error}"))})
        self._finish("FAILED")

    def close_as_killed(self) -> None:
        """End the tracked run, if there is one, because its process is about to leave."""
        self._finish("KILLED")

    def _finish(self, status: str) -> None:
        session, self._session, self._catalog = self._session, None, None
        if session is None:
            return
        atexit.unregister(self._finish)
        if self._restore_signal is not None:
            self._restore_signal()
        session.close(status)

    def _project(self) -> Path:
        return Path(self._context.project_path) if self._context else Path.cwd()

    def _data_folder(self) -> Path:
        """The folder of the Kedro layers: NQCAST_DATA or `data`, as conf/base/globals.yml says."""
        return self._project() / os.environ.get("NQCAST_DATA", "data")

    def _facts(self, name: str, saved: bool) -> dict[str, str]:
        dataset = self._catalog.get(name) if self._catalog is not None and not name.startswith("params:") else None
        provenance = getattr(dataset, "provenance", None)
        if provenance is None:
            return {}
        try:
            return dict(provenance(saved))
        except Exception as error:  # a dataset's own trouble is the run's to report, tracking only goes without
            log.warning("tracking: version and hash of %s are unknown: %s", name, error)
            return {}

    def _wishes(self, name: str) -> list[str]:
        dataset = self._catalog.get(name) if self._catalog is not None else None
        metadata = getattr(dataset, "metadata", None) or {}
        wish = metadata.get("nqcast", {}).get("mlflow", [])
        return [wish] if isinstance(wish, str) else list(wish)


def _exit_on_sigterm() -> Callable[[], None] | None:
    """Let SIGTERM end the process in order, so that the run is closed as KILLED; a handler already there stays."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        return None

    def leave(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)

    def restore() -> None:
        on_main = threading.current_thread() is threading.main_thread()
        if on_main and signal.getsignal(signal.SIGTERM) is leave:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    return restore

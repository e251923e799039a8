"""The MLflow side: where runs go, and the few calls that send them. Every call may be repeated without harm."""

import json
import logging
import math
import os
import secrets
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from nqcast.redaction import redact
from nqcast.storage.lock import one_writer
from nqcast.tracking.spool import Line

log = logging.getLogger(__name__)

RUN_TAG = "nqcast.spool"
DATABASE, ARTIFACTS = "mlflow.db", "artifacts"
_LOCAL_SCHEMES = ("sqlite", "file:", "/")
_PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}
_KIND_TAG = "mlflow.experimentKind"  # MLflow's page opens on training runs, not on traces of language models
_KIND = "custom_model_development"
_PLACES = (  # where MLflow writes absolute places of artifacts down
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
)


class RefusedError(ValueError):
    """The store will never take this line: asking again would not help."""


class Destination(NamedTuple):
    """An MLflow store: its URI and, for the database in a tracking folder, the folder of its artifacts."""

    uri: str
    artifacts: Path | None = None

    @property
    def is_local(self) -> bool:
        return self.uri.startswith(_LOCAL_SCHEMES)

    @property
    def shown(self) -> str:
        """The URI without credentials, for logs and files."""
        return redact(self.uri)

    @property
    def noted(self) -> str:
        """What a spool may say of it: nothing absolute for the store beside it, which may be copied with it."""
        return "" if self.artifacts is not None else self.shown


def destination(folder: Path, uri: str | None = None) -> Destination:
    """The store of a URI; without one, or with its own, the SQLite file in `folder` with the artifacts beside it."""
    database = folder.absolute() / DATABASE
    if not uri or Path(uri.removeprefix("sqlite:///")).absolute() == database:
        return Destination(_sqlite_uri(database), database.with_name(ARTIFACTS))
    return Destination(uri)


def ready_database(artifacts: Path, make: Callable[[str], None]) -> None:
    """Have a whole database beside `artifacts`, whoever else wants one now, that knows where they are.

    It is made under another name and renamed, so that a kill leaves none or a whole one. One without a run that
    MLflow cannot open was cut short by a kill (of another program): it is moved aside. In a folder that was copied
    or moved, the places of artifacts are brought up to date.

    Args:
        artifacts: the folder of artifacts; the database is beside it.
        make: opens the store of a URI, which makes it where there is none.
    """
    path = artifacts.with_name(DATABASE)
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_name(f".{DATABASE}.making-{secrets.token_hex(4)}")
    with one_writer(path.parent):
        for left in path.parent.glob(f".{DATABASE}.making-*"):  # by a kill: whoever makes one holds the lock
            left.unlink()
        if path.exists() and not _holds_runs(path):
            _move_aside_unless_whole(path, making.with_name(f"{making.name}-copy"), make)
        if not path.exists():
            make(_sqlite_uri(making))
            making.rename(path)
        _move_places(path, artifacts)


def _move_aside_unless_whole(path: Path, copy: Path, make: Callable[[str], None]) -> None:
    """MLflow is shown a copy: it keeps connections to what it could not open."""
    shutil.copyfile(path, copy)
    try:
        make(_sqlite_uri(copy))
    except Exception as error:  # SQLAlchemy's and alembic's kinds depend on where it was cut short
        aside = next(name for i in range(1, 1000) if not (name := path.with_name(f"{DATABASE}.half_made_{i}")).exists())
        path.rename(aside)
        reason = str(error).splitlines()[0][:200]
        log.warning("tracking: %s was half made (%s): moved to %s, a new one is made", path, reason, aside.name)
    copy.unlink()


def _holds_runs(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as database, suppress(sqlite3.DatabaseError):
        return bool(database.execute("select 1 from runs limit 1").fetchall())
    return False


def _move_places(path: Path, artifacts: Path) -> None:
    """Let every place below another folder's artifacts of this name be the one below `artifacts`."""
    here, tail = artifacts.as_uri(), f"/{artifacts.parent.name}/{ARTIFACTS}"
    with closing(sqlite3.connect(path, timeout=30)) as database, database:
        found = database.execute("select artifact_location from experiments where artifact_location like 'file:%'")
        others = {old for (old,) in found if old != here and unquote(urlsplit(old).path).endswith(tail)}
        for old in others:
            for table, column in _PLACES:
                change = f"update {table} set {column} = ? || substr({column}, ?)"
                where = f"{column} = ? or substr({column}, 1, ?) = ?"
                database.execute(f"{change} where {where}", (here, len(old) + 1, old, len(old) + 1, f"{old}/"))
            log.info("tracking: artifacts that were in %s are in %s", old, here)


def _sqlite_uri(path: Path) -> str:
    """SQLAlchemy's URI of a file; it takes %XX for a character and ? for the end of the path.

    With the driver in it MLflow does not make the folder that the quoted path would name.
    """
    quoted = str(path).replace("%", "%25").replace("?", "%3F")
    return f"sqlite:///{path}" if quoted == str(path) else f"sqlite+pysqlite:///{quoted}"


class MlflowStore:
    """Sends one run's lines. Importing mlflow and making a SQLite store take seconds: build it off the main thread."""

    def __init__(self, place: Destination, request_timeout: float) -> None:
        _quiet_environment(request_timeout)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if place.artifacts is not None:
            ready_database(place.artifacts, partial(_open, place.artifacts.as_uri()))
        self._place = place
        self._exception = MlflowException
        self._client = MlflowClient(tracking_uri=place.uri)

    def ensure_run(self, start: Line, key: str, parent: str | None = None) -> str:
        """The run that carries `key` as its tag, made where there is none (its creation may have gone unanswered).

        With `parent`, a run inside that one.
        """
        if parent is None:
            experiment = self._experiment(start["experiment"])
        else:
            experiment = str(self._client.get_run(parent).info.experiment_id)
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {**start["tags"], RUN_TAG: key} | ({"mlflow.parentRunId": parent} if parent else {})
        run = self._client.create_run(experiment, start_time=start["time"], tags=tags, run_name=start["name"])
        return str(run.info.run_id)

    def send(self, run_id: str, lines: list[Line], files: Path) -> None:
        """Send lines of one kind.

        Raises:
            RefusedError: the store answered that it will not take them.
            Exception: whatever an outage raises; ask again later.
        """
        sender = getattr(self, f"_send_{lines[0]['kind']}", None)
        if sender is None:
            raise RefusedError(f"there is no kind of line {lines[0]['kind']!r}")
        try:
            sender(run_id, lines, files)
        except self._exception as error:
            if error.error_code in _PERMANENT:
                raise RefusedError(str(error)) from error
            raise

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = self._place.artifacts.as_uri() if self._place.artifacts else None
            tags = {_KIND_TAG: _KIND}
            try:
                return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
            except self._exception:  # another run has just made it
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"expected an active experiment, found {name!r} deleted: restore it or set another tracking.experiment"
            )
        if _KIND_TAG not in experiment.tags:
            self._client.set_experiment_tag(experiment.experiment_id, _KIND_TAG, _KIND)
        return str(experiment.experiment_id)

    def _send_params(self, run_id: str, lines: list[Line], _: Path) -> None:
        from mlflow.entities import Param

        self._send_batches(run_id, "params", [Param(*pair) for line in lines for pair in line["values"].items()])

    def _send_tags(self, run_id: str, lines: list[Line], _: Path) -> None:
        from mlflow.entities import RunTag

        self._send_batches(run_id, "tags", [RunTag(*pair) for line in lines for pair in line["values"].items()])

    def _send_metrics(self, run_id: str, lines: list[Line], _: Path) -> None:
        """A metric of the same name, step, time and value is one row in MLflow, however often it is sent."""
        from mlflow.entities import Metric

        rows = [Metric(*pair, line["time"], line["step"]) for line in lines for pair in line["values"].items()]
        self._send_batches(run_id, "metrics", rows)

    def _send_batches(self, run_id: str, kind: str, rows: list[object]) -> None:
        """Send as many rows at once as MLflow takes: 100, or 1000 metrics."""
        most = 1000 if kind == "metrics" else 100
        for i in range(0, len(rows), most):
            self._client.log_batch(run_id, **{kind: rows[i : i + most]})

    def _send_artifact(self, run_id: str, lines: list[Line], files: Path) -> None:
        for line in lines:
            path = files / line["file"]
            if not path.exists():
                raise RefusedError(f"the kept artifact {path} is gone")
            inside = [item for item in sorted(path.rglob("*")) if item.is_file()] if path.is_dir() else [path]
            for item in inside:
                folder = item.parent.relative_to(path.parent).as_posix()
                self._client.log_artifact(run_id, str(item), artifact_path=None if folder == "." else folder)

    def _send_dataset(self, run_id: str, lines: list[Line], _: Path) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        for line in lines:
            source, profile = json.dumps({"uri": line["source"]}), json.dumps(line["profile"])
            dataset = Dataset(line["name"], line["digest"], "local", source, profile=profile)
            self._client.log_inputs(run_id, [DatasetInput(dataset, [InputTag("mlflow.data.context", "bars")])])

    def _send_model(self, run_id: str, lines: list[Line], files: Path) -> None:
        from nqcast.tracking.registry import register_forecaster

        for line in lines:
            folder = files / line["file"]
            if not folder.exists():
                raise RefusedError(f"the kept model {folder} is gone")
            register_forecaster(self._client, run_id, folder, line)

    def _send_walk_forward(self, run_id: str, lines: list[Line], _: Path) -> None:
        from nqcast.tracking.registry import note_walk_forward

        for line in lines:
            note_walk_forward(self._client, line)

    def _send_end(self, run_id: str, lines: list[Line], _: Path) -> None:
        self._client.set_terminated(run_id, status=lines[-1]["status"], end_time=lines[-1]["time"])


def _open(artifacts: str, uri: str) -> None:
    """Open the tracking store of a database of our own, which MLflow makes where there is none."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    store = SqlAlchemyStore(uri, artifacts)
    store.engine.dispose()


def _quiet_environment(request_timeout: float) -> None:
    """MLflow reads these at every request and offers no other way; what the user has set stays."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(request_timeout)),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender tries again by itself, and can be stopped
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)

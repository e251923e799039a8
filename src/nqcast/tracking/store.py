"""The MLflow side: where runs go, and the few calls that send them. Every call may be repeated without harm."""

import logging
import math
import os
from pathlib import Path
from typing import Any, NamedTuple

from nqcast.tracking.flatten import redact

RUN_TAG = "nqcast.spool"
_LOCAL_SCHEMES = ("sqlite:", "file:", "/")
_PERMANENT = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_ALREADY_EXISTS", "INVALID_STATE"}


class RefusedError(ValueError):
    """The store will never take this line: asking again would not help."""


class Destination(NamedTuple):
    """An MLflow store: its URI and, for a local one, the folder of its artifacts."""

    uri: str
    artifacts: Path | None = None

    @property
    def is_local(self) -> bool:
        return self.uri.startswith(_LOCAL_SCHEMES)

    @property
    def shown(self) -> str:
        """The URI without credentials, for logs and files."""
        return redact(self.uri)


def destination(folder: Path, uri: str | None) -> Destination:
    """MLFLOW_TRACKING_URI, else `uri`, else a SQLite file in `folder` with the artifacts beside it."""
    uri = os.environ.get("MLFLOW_TRACKING_URI") or uri
    if uri:
        return Destination(uri)
    return Destination(f"sqlite:///{folder.absolute() / 'mlflow.db'}", folder.absolute() / "artifacts")


class MlflowStore:
    """Sends one run's lines. Importing mlflow and making a SQLite store take seconds: build it off the main thread."""

    def __init__(self, place: Destination, request_timeout: float) -> None:
        _quiet_environment(request_timeout)
        if place.artifacts is not None:
            place.artifacts.parent.mkdir(parents=True, exist_ok=True)
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._place = place
        self._exception = MlflowException
        self._client = MlflowClient(tracking_uri=place.uri)

    def ensure_run(self, start: dict[str, Any], key: str) -> str:
        """The run that carries `key` as its tag, made where there is none (its creation may have gone unanswered)."""
        experiment = self._experiment(start["experiment"])
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        run = self._client.create_run(
            experiment, start_time=start["time"], tags={**start["tags"], RUN_TAG: key}, run_name=start["name"]
        )
        return str(run.info.run_id)

    def ensure_child(self, parent: str, start: dict[str, Any], key: str) -> str:
        """The run inside the run `parent` that carries `key` as its tag, made where there is none."""
        experiment = self._client.get_run(parent).info.experiment_id
        found = self._client.search_runs([experiment], f"tags.`{RUN_TAG}` = '{key}'", max_results=1)
        if found:
            return str(found[0].info.run_id)
        tags = {**start["tags"], RUN_TAG: key, "mlflow.parentRunId": parent}
        run = self._client.create_run(experiment, start_time=start["time"], tags=tags, run_name=start["name"])
        return str(run.info.run_id)

    def send(self, run_id: str, lines: list[dict[str, Any]], files: Path) -> None:
        """Send lines of one kind.

        Raises:
            RefusedError: the store answered that it will not take them.
            Exception: whatever an outage raises; ask again later.
        """
        try:
            getattr(self, f"_send_{lines[0]['kind']}")(run_id, lines, files)
        except self._exception as error:
            if error.error_code in _PERMANENT:
                raise RefusedError(str(error)) from error
            raise

    def _experiment(self, name: str) -> str:
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = self._place.artifacts.as_uri() if self._place.artifacts else None
            try:
                return str(self._client.create_experiment(name, artifact_location=location))
            except self._exception:  # another run has just made it
                experiment = self._client.get_experiment_by_name(name)
                if experiment is None:
                    raise
        if experiment.lifecycle_stage != "active":
            raise ValueError(
                f"expected an active experiment, found {name!r} deleted: restore it or set another tracking.experiment"
            )
        return str(experiment.experiment_id)

    def _send_params(self, run_id: str, lines: list[dict[str, Any]], _: Path) -> None:
        from mlflow.entities import Param

        params = [Param(name, value) for line in lines for name, value in line["values"].items()]
        for i in range(0, len(params), 100):  # the most that MLflow takes at once
            self._client.log_batch(run_id, params=params[i : i + 100])

    def _send_tags(self, run_id: str, lines: list[dict[str, Any]], _: Path) -> None:
        from mlflow.entities import RunTag

        tags = [RunTag(name, value) for line in lines for name, value in line["values"].items()]
        for i in range(0, len(tags), 100):
            self._client.log_batch(run_id, tags=tags[i : i + 100])

    def _send_metrics(self, run_id: str, lines: list[dict[str, Any]], _: Path) -> None:
        """A metric of the same name, step, time and value is one row in MLflow, however often it is sent."""
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, line["time"], line["step"]) for line in lines for name, value in line["values"].items()
        ]
        for i in range(0, len(metrics), 1000):
            self._client.log_batch(run_id, metrics=metrics[i : i + 1000])

    def _send_artifact(self, run_id: str, lines: list[dict[str, Any]], files: Path) -> None:
        for line in lines:
            path = files / line["file"]
            if not path.exists():
                raise RefusedError(f"the kept artifact {path} is gone")
            inside = [item for item in sorted(path.rglob("*")) if item.is_file()] if path.is_dir() else [path]
            for item in inside:
                folder = item.parent.relative_to(path.parent).as_posix()
                self._client.log_artifact(run_id, str(item), artifact_path=None if folder == "." else folder)

    def _send_model(self, run_id: str, lines: list[dict[str, Any]], files: Path) -> None:
        from nqcast.tracking.registry import register_forecaster

        for line in lines:
            folder = files / line["file"]
            if not folder.exists():
                raise RefusedError(f"the kept model {folder} is gone")
            key, recipe = f"{run_id}/{line['file']}", line.get("recipe", "")
            register_forecaster(self._client, run_id, folder, line["name"], line["promote"], key, recipe)

    def _send_walk_forward(self, run_id: str, lines: list[dict[str, Any]], _: Path) -> None:
        from nqcast.tracking.registry import note_walk_forward

        for line in lines:
            record = {"loss": line["loss"], "anchors": line["anchors"]}
            note_walk_forward(self._client, line["name"], line["recipe"], record, line["promote"])

    def _send_end(self, run_id: str, lines: list[dict[str, Any]], _: Path) -> None:
        self._client.set_terminated(run_id, status=lines[-1]["status"], end_time=lines[-1]["time"])


def _quiet_environment(request_timeout: float) -> None:
    """MLflow reads these at every request and offers no other way; what the user has set stays."""
    for name, value in {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(math.ceil(request_timeout)),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # the sender tries again by itself, and can be stopped
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "ERROR",
        "GIT_PYTHON_REFRESH": "quiet",
    }.items():
        os.environ.setdefault(name, value)

"""MLflow as a logger of the Trainer, for scripts and notebooks without Kedro."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.flatten import flatten_parameters
from nqcast.tracking.session import TrackingSession
from nqcast.tracking.spool import Spool
from nqcast.tracking.store import destination
from nqcast.training.loggers import numbers


class MlflowLogger:
    """`with MlflowLogger(...) as logger: Trainer(..., logger=logger).train()`.

    Metrics go to a spool in `folder` and from there to MLflow in a thread of their own, as in a Kedro run: a store that
    is down slows nothing, and `make replay-metrics` sends what it missed.

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
        parameters: Mapping[str, Any] | None = None,
        uri: str | None = None,
        experiment: str = "nqcast",
    ) -> None:
        config = TrackingConfig(experiment=experiment, uri=uri, system_metrics=False)
        spool = Spool.create(Path(folder) / "spool", name)
        self._session: TrackingSession | None = TrackingSession(
            spool, destination(Path(folder), uri), config, Path.cwd()
        )
        self._session.start(name, experiment, {})
        self._session.params(flatten_parameters(dict(parameters or {})))

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Keep the finite numbers of `values`; returns at once."""
        if self._session is not None:
            found = numbers(values)
            self._session.metrics({name: value for name, value in found.items() if math.isfinite(value)}, step)

    def close(self, status: str = "FINISHED") -> None:
        """End the run (FINISHED, FAILED or KILLED) and wait a little for the store."""
        session, self._session = self._session, None
        if session is not None:
            session.close(status)

    def __enter__(self) -> MlflowLogger:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        killed = kind is not None and not issubclass(kind, Exception)
        self.close("KILLED" if killed else "FINISHED" if kind is None else "FAILED")

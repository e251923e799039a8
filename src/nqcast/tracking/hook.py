"""The Kedro hook that tracks runs. Importing it imports no mlflow: `kedro registry list` stays quick."""

import atexit
import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TypedDict, cast

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol
from kedro.pipeline import Pipeline

import nqcast
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.place import place, working
from nqcast.tracking.config import TrackingConfig
from nqcast.tracking.facts import (
    RECIPE_TAG,
    data_tags,
    fingerprint_tags,
    flatten_metrics,
    flatten_parameters,
    parameters_read,
    recipe_fingerprint,
    redact,
    run_name,
    run_tags,
    shorten,
    source_of,
    span,
)
from nqcast.tracking.logger import TrackedRun, activate

log = logging.getLogger(__name__)

FOLDER = "09_tracking"


class Tracked(TypedDict, total=False):
    """What a catalog entry's metadata wish for, below `nqcast`."""

    mlflow: str | list[str]
    headlines: dict[str, str]


class WalkForwardScores(TypedDict):
    """What is read of the entry `walk_forward_scores`."""

    anchors: str
    table: dict[str, dict[str, dict[str, float]]]


class TrackingHook:
    """Tracks every `kedro run`: parameters, tags, live metrics, chosen catalog entries, and how it ended.

    A catalog entry is sent when its metadata say so (`metadata: {nqcast: {mlflow: metrics}}`, or a list). At its save:
    `metrics` (all numbers, or those that `headlines` names), `artifact`, `model` (a calibration: it is registered
    together with the checkpoint), `walk_forward` (scores that may promote a registered model). At its load: `dataset`.
    """

    def __init__(self, complete: Callable[[dict[str, object]], dict[str, object]] | None = None) -> None:
        """`complete` may add the defaults to the parameters as the user wrote them."""
        self._complete = complete
        self._context: KedroContext | None = None
        self._catalog: CatalogProtocol | None = None
        self._run: TrackedRun | None = None
        self._registers = False
        self._recipe, self._source, self._about = "", "", ""

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        self._context = context

    @hook_impl
    def before_pipeline_run(self, run_params: dict[str, object], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Open the run's spool and start its thread."""
        self._finish("KILLED")  # one that a notebook interrupted
        if self._context is None:
            return
        parameters = self._context.params
        env = str(run_params.get("env") or "")
        config = TrackingConfig(**parameters.get("tracking") or {}).named(env)
        if not config.enabled:
            return
        folder = self._data_folder() / FOLDER
        try:
            run = TrackedRun(folder, str(run_params.get("run_id") or "run"), config, self._project())
        except OSError as error:
            log.warning("tracking: no spool can be made in %s, the run goes on untracked: %s", folder, error)
            return
        complete = self._complete(parameters) if self._complete else parameters
        features = complete.get("features")
        own = isinstance(features, dict) and features.get("own")  # a registered model is served without these files
        self._catalog, self._registers = catalog, config.register_model and not own
        self._recipe = recipe_fingerprint(complete)
        tags = {**run_tags(run_params, nqcast.__version__), RECIPE_TAG: self._recipe}
        self._source, self._about = "", f"`{tags['mlflow.source.name']}{f' --env {env}' if env else ''}`"
        run.start(run_name(run_params, datetime.now()), {**tags, "mlflow.note.content": self._about})
        run.record("params", values=parameters_read(flatten_parameters(complete), pipeline.inputs()))
        self._run = run
        activate(run)
        atexit.register(self._finish, "KILLED")

    @hook_impl
    def after_dataset_loaded(self, dataset_name: str, data: object) -> None:
        """Note the version of what is read; let the runs below a run directory be this run's."""
        if self._run is None:
            return
        if isinstance(data, Path) and dataset_name == "run_directory":
            self._run.watch(data)
        facts = self._facts(dataset_name, saved=False)
        self._run.tags(data_tags(dataset_name, facts))
        self._note_source(data)
        if "dataset" in self._wishes(dataset_name):
            digest = facts.get("sha256", "")[:16]
            self._run.record("dataset", name=dataset_name, digest=digest, source=self._source, profile=span(data))

    @hook_impl
    def after_dataset_saved(self, dataset_name: str, data: object) -> None:
        """Note the version of what was written; send it where its metadata say so."""
        if self._run is None:
            return
        facts = self._facts(dataset_name, saved=True)
        self._run.tags({**data_tags(dataset_name, facts), **fingerprint_tags(data)})
        wishes = self._wishes(dataset_name)
        if "metrics" in wishes:
            headlines = self._metadata(dataset_name).get("headlines")
            self._run.metrics(flatten_metrics(dataset_name, data, headlines))
        if "artifact" in wishes and "path" in facts:
            self._run.artifact(place(facts["path"]))
        checkpoint = self._facts("checkpoint", saved=False) if "model" in wishes and self._registers else {}
        if "path" in checkpoint and "path" in facts:
            self._run.model(place(checkpoint["path"]), place(facts["path"]), recipe=self._recipe)
        if "walk_forward" in wishes and self._registers:
            loss, anchors = walk_forward_loss(cast(WalkForwardScores, data))
            self._run.registered("walk_forward", recipe=self._recipe, loss=loss, anchors=anchors)

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._finish("FINISHED")

    @hook_impl
    def on_pipeline_error(self, error: Exception) -> None:
        if self._run is not None:
            self._run.tags({"error": shorten(redact(f"{type(error).__name__}: {error}"))})
        self._finish("FAILED")

    def close_as_killed(self) -> None:
        """End the tracked run, if there is one, because its process is about to leave."""
        self._finish("KILLED")

    def _finish(self, status: str) -> None:
        run, self._run, self._catalog = self._run, None, None
        if run is None:
            return
        activate(None)
        atexit.unregister(self._finish)
        run.close(status)

    def _project(self) -> Path:
        return Path(self._context.project_path) if self._context else Path.cwd()

    def _data_folder(self) -> Path:
        """The local folder of the environment's layers, as its globals.yml says."""
        data = self._context.config_loader["globals"]["data"] if self._context else "data"
        return self._project() / working(place(data))

    def _note_source(self, data: object) -> None:
        source = source_of(data)
        if self._run is not None and source and source != self._source:
            self._source = source
            self._run.tags({"data.source": source, "mlflow.note.content": f"{self._about} on {source}"})

    def _facts(self, name: str, saved: bool) -> dict[str, str]:
        dataset = self._catalog.get(name) if self._catalog is not None and not name.startswith("params:") else None
        provenance, content = (getattr(dataset, name, None) for name in ("provenance", "content"))
        try:
            if provenance is None:
                return {"sha256": fingerprint(content(), 64)} if content is not None else {}
            return dict(provenance(saved))
        except Exception as error:  # a dataset's own trouble is the run's to report, tracking only goes without
            log.warning("tracking: version and hash of %s are unknown: %s", name, error)
            return {}

    def _metadata(self, name: str) -> Tracked:
        dataset = self._catalog.get(name) if self._catalog is not None else None
        return (getattr(dataset, "metadata", None) or {}).get("nqcast", {})

    def _wishes(self, name: str) -> list[str]:
        wish = self._metadata(name).get("mlflow", [])
        return [wish] if isinstance(wish, str) else list(wish)


def walk_forward_loss(scores: WalkForwardScores) -> tuple[float, str]:
    """The model's mean pinball loss over all folds, and what it was measured on; equal names are equal anchors.

    The constants' loss is part of the name: folds cut otherwise fit other constants.
    """
    table = scores["table"]
    anchors = f"{scores['anchors']}; constants {table['constants']['mean']['mean_pinball']:.12g}"
    return float(table["model"]["mean"]["mean_pinball"]), anchors

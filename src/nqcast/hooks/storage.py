"""Asks the disk before a run begins, and keeps others out: what cannot be written fails now, not after the ingest."""

import os
import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path, PurePosixPath
from typing import Any

from kedro.framework.context import KedroContext
from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from nqcast.datasets.placed import PlacedDataset, RunDirectoryDataset
from nqcast.datasets.verified import VerifiedDataset
from nqcast.storage.errors import require_writable
from nqcast.storage.lock import DirectoryLock, StoreLock
from nqcast.storage.place import Place, StorePath, data_place, place, working
from nqcast.tracking.hook import FOLDER as TRACKING

LEAST_FREE_BYTES = 200_000_000
"""Room that a run of any pipeline must find: features of ten years are 150 MB. Training asks for more by itself."""


class StorageHook:
    """Before the first node, every place that will be written to is probed, and the data folder is this run's alone."""

    def __init__(self) -> None:
        self._data: Place | None = None
        self._locks = ExitStack()

    @hook_impl
    def after_context_created(self, context: KedroContext) -> None:
        """Keep which folder the environment writes to."""
        data = place(context.config_loader["globals"]["data"])
        self._data = context.project_path / data if isinstance(data, Path) else data

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """Refuse a run that could not write what it makes.

        Raises:
            StorageError: a folder is full, read-only or a file, or the store of the data cannot be written.
            DatasetError: the place of working checkpoints cannot be used, an output lies outside of the project and of
                NQCAST_DATA, or its dataset cannot be made.
            DirectoryBusyError: another run writes to the data folder; says who.
            ValueError: the runner is Kedro's ParallelRunner.
        """
        if "ParallelRunner" in str(run_params.get("runner")):
            raise ValueError(
                "expected the SequentialRunner or the ThreadRunner, found the ParallelRunner, whose processes do not "
                "share what nodes hand on in memory: leave --runner out"
            )
        project = Path(run_params["project_path"])
        given = (place(value).absolute() for name in ("NQCAST_DATA", "NQCAST_WORK") if (value := os.environ.get(name)))
        roots = [project.resolve(), *(root.resolve() if isinstance(root, Path) else root for root in given)]
        outputs, entries = pipeline.all_outputs(), {name: catalog.get(name) for name in sorted(pipeline.datasets())}
        written = {name: dataset for name, dataset in entries.items() if is_written(dataset, name in outputs)}
        for name, dataset in written.items():
            require_inside(name, dataset._filepath, roots)
        if self._data is not None:
            require_inside("the tracked run", project / working(self._data) / TRACKING, roots)
        for folder in {_existing(dataset._filepath.parent) for dataset in written.values()}:
            probe(folder)
        for dataset in written.values():
            if isinstance(dataset, RunDirectoryDataset):
                dataset.load()
            elif isinstance(dataset, VerifiedDataset):
                dataset.check_definition()
        if written:
            self._take()

    @hook_impl
    def after_pipeline_run(self) -> None:
        self._give_back()

    @hook_impl
    def on_pipeline_error(self) -> None:
        self._give_back()

    def _take(self) -> None:
        self._give_back()  # a stopped run of this process, which no hook has seen end
        if self._data is not None:
            cure = "reading it is free; wait for that run, or give this one a folder of its own with NQCAST_DATA"
            folder = working(self._data)
            with ExitStack() as taken:
                here = taken.enter_context(DirectoryLock(folder, cure))
                if isinstance(self._data, StorePath) and not here.is_shared:
                    taken.enter_context(StoreLock(self._data, folder, cure))
                self._locks = taken.pop_all()

    def _give_back(self) -> None:
        self._locks.close()


def is_written(dataset: Any, is_output: bool) -> bool:
    """Whether a run writes to this entry: a durable output, or the place of working checkpoints."""
    durable = is_output and isinstance(dataset, VerifiedDataset | PlacedDataset)
    return durable or isinstance(dataset, RunDirectoryDataset)


def require_inside(name: str, path: Place, roots: Sequence[Place]) -> None:
    """Raise DatasetError unless `path` and the links in it, followed with `..`, lie below one of `roots`."""
    links = [item for item in path.iterdir() if item.is_symlink()] if isinstance(path, Path) and path.is_dir() else []
    for found in (path, *links):
        real = found.resolve() if isinstance(found, Path) else found
        if not any(PurePosixPath(str(real)).is_relative_to(str(root)) for root in roots):
            raise DatasetError(
                f"expected {name} to be written below {' or '.join(map(str, roots))}, found {found}, which is {real}: "
                "correct the catalog entry or the link, or name the data folder that you mean with NQCAST_DATA"
            )


def probe(folder: Place) -> None:
    """Raise StorageError unless `folder` takes a file and has room for a run."""
    if isinstance(folder, StorePath):
        asked = folder / f".probe.{secrets.token_hex(6)}.tmp"
        asked.write_bytes(b"\0")
        asked.unlink()
        return
    require_writable(folder, LEAST_FREE_BYTES)


def _existing(folder: Place) -> Place:
    """`folder`, or the nearest one above that is there; a store has no folders that would have to be."""
    if isinstance(folder, StorePath):
        return data_place()
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

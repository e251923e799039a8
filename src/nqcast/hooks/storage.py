"""Asks the disk before a run begins: an output that cannot be written fails now, not after the ingest."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.framework.hooks import hook_impl
from kedro.io import CatalogProtocol, DatasetError
from kedro.pipeline import Pipeline

from nqcast.datasets.append_only import AppendOnlyLogDataset
from nqcast.datasets.run_directory import RunDirectoryDataset
from nqcast.datasets.verified import VerifiedDataset
from nqcast.storage.errors import require_free_space, storage_errors

LEAST_FREE_BYTES = 200_000_000
"""Room that a run of any pipeline must find: features of ten years are 150 MB. Training asks for more by itself."""


class StorageHook:
    """Every place that the chosen nodes will write to is probed before the first of them runs."""

    @hook_impl(tryfirst=True)
    def before_pipeline_run(self, run_params: dict[str, Any], pipeline: Pipeline, catalog: CatalogProtocol) -> None:
        """
        Raises:
            StorageError: a folder is full, read-only or a file.
            DatasetError: the place of working checkpoints cannot be used, or an output lies outside of the project
                and of NQCAST_DATA.
        """
        project = Path(run_params["project_path"])
        data = os.environ.get("NQCAST_DATA")
        roots = [project.resolve(), *([(project / data).resolve()] if data else [])]
        probed: set[Path] = set()
        for name in sorted(pipeline.datasets()):
            dataset = catalog.get(name)
            is_output = name in pipeline.all_outputs() and isinstance(dataset, VerifiedDataset | AppendOnlyLogDataset)
            if is_output or isinstance(dataset, RunDirectoryDataset):
                require_inside(name, Path(str(dataset._filepath)), roots)
            if isinstance(dataset, RunDirectoryDataset):
                dataset.load()
            elif is_output:
                folder = _existing(Path(str(dataset._filepath)).parent)
                if folder not in probed:
                    probed.add(folder)
                    probe(folder)


def require_inside(name: str, path: Path, roots: Sequence[Path]) -> None:
    """Raise DatasetError unless `path`, with `..` and links followed, lies below one of `roots`."""
    real = path.resolve()
    if not any(real.is_relative_to(root) for root in roots):
        raise DatasetError(
            f"expected {name} to be written below {' or '.join(map(str, roots))}, found {path}, which is {real}: "
            "correct the catalog entry or the link, or name the data folder that you mean with NQCAST_DATA"
        )


def probe(folder: Path) -> None:
    """Raise StorageError unless `folder` takes a file and has room for a run."""
    with storage_errors(folder, LEAST_FREE_BYTES), tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"\0")
        file.flush()
    require_free_space(folder, LEAST_FREE_BYTES)


def _existing(folder: Path) -> Path:
    """`folder`, or the nearest one above that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder

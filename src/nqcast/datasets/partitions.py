"""Partitions that are written one at a time: a frame, a record and perhaps a checkpoint in one folder, whole or not."""

import io
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as bytes_from_tensors

from nqcast.datasets.base import local_path
from nqcast.datasets.documents import plain
from nqcast.storage.verified import VerificationError, read_verified, write_folder

log = logging.getLogger(__name__)

FRAME, TENSORS, CHECKPOINT, RECORD = "frame.parquet", "model.safetensors", "checkpoint.json", "record.json"
MANIFEST = "manifest.sha256"

Partition = dict[str, Any]


class VerifiedPartitionsDataset(AbstractDataset):
    """`{name: {"frame": DataFrame, "record": dict, "checkpoint": {"tensors", "metadata"}}}` as `<filepath>/<name>/`.

    The checkpoint may be left out, and the frame may come as the bytes of a parquet file. save() adds partitions, each
    in one rename; a node that yields saves as it goes. load() maps the name of every whole partition to a function that
    reads it; broken ones are named in a warning and left out.
    """

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            filepath: local folder that holds the partitions.
            metadata: anything for plugins; ignored here.
        """
        self._filepath = local_path(filepath)
        self.metadata = metadata

    def load(self) -> dict[str, Callable[[], Partition]]:
        root = Path(self._filepath)
        folders = (
            sorted(p for p in root.iterdir() if p.is_dir() and not p.name.startswith(".")) if self._exists() else []
        )
        found = {}
        for folder in folders:
            try:
                _bytes_of(folder)
            except VerificationError as error:
                log.warning("partition %s is left out: %s", folder.name, error)
                continue
            found[folder.name] = _reader(folder)
        return found

    def save(self, data: dict[str, Partition]) -> None:
        if not isinstance(data, dict):
            raise DatasetError(f"expected partitions by name (a dict), found {type(data).__name__}: yield {{name: …}}")
        for name, partition in data.items():
            folder = Path(self._filepath) / name
            if folder.exists():
                self._move_aside(folder)
            try:
                write_folder(folder, _encode(partition, name), MANIFEST)
            except OSError as error:
                raise DatasetError(f"partition {name} was not saved: {error.strerror or error}") from error

    def preview(self) -> JSONPreview:
        """Names of the whole partitions for kedro-viz."""
        return JSONPreview(json.dumps(sorted(self.load())))

    def _move_aside(self, folder: Path) -> None:
        """A broken partition makes room under a name that no load takes; a whole one is never replaced."""
        try:
            _bytes_of(folder)
        except VerificationError:
            spare = folder.with_name(f".broken_{folder.name}_{len(list(folder.parent.glob('.broken_*')))}")
            folder.rename(spare)
            return
        raise DatasetError(f"expected a new partition, found {folder} already: its name should tell contents apart")

    def _exists(self) -> bool:
        return Path(self._filepath).is_dir()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


def _encode(partition: Partition, name: str) -> dict[str, bytes]:
    if not isinstance(partition, dict) or set(partition) - {"checkpoint"} != {"frame", "record"}:
        raise DatasetError(
            f"expected frame, record and perhaps checkpoint in partition {name}, found {sorted(partition)}"
        )
    files = {FRAME: _parquet(partition["frame"]), RECORD: _json(partition["record"], RECORD)}
    if "checkpoint" in partition:
        checkpoint = partition["checkpoint"]
        files[TENSORS] = bytes_from_tensors(checkpoint["tensors"])
        files[CHECKPOINT] = _json(checkpoint["metadata"], CHECKPOINT)
    return files


def _parquet(frame: pd.DataFrame | bytes) -> bytes:
    if isinstance(frame, bytes):
        return frame
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", compression="zstd")
    return buffer.getvalue()


def _json(content: Any, file: str) -> bytes:
    return json.dumps(plain(content, file), indent=2).encode()


def _bytes_of(folder: Path) -> dict[str, bytes]:
    """Verified content of the files that the manifest names; frame and record always."""
    manifest = folder / MANIFEST
    listed = manifest.read_text(encoding="utf-8", errors="replace") if manifest.is_file() else ""
    names = (FRAME, RECORD, *(name for name in (TENSORS, CHECKPOINT) if name in listed))
    return {name: read_verified(folder / name, manifest) for name in names}


def _reader(folder: Path) -> Callable[[], Partition]:
    def read() -> Partition:
        content = _bytes_of(folder)
        frame = pd.read_parquet(io.BytesIO(content[FRAME]), engine="pyarrow")
        partition: Partition = {"frame": frame, "record": json.loads(content[RECORD])}
        if TENSORS in content:
            tensors = tensors_from_bytes(content[TENSORS])
            partition["checkpoint"] = {"tensors": tensors, "metadata": json.loads(content[CHECKPOINT])}
        return partition

    return read

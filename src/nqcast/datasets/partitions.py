"""Partitions that are written one at a time: a frame, a record and perhaps a checkpoint in one folder, whole or not."""

import io
import json
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError
from kedro_datasets._typing import JSONPreview

from nqcast.datasets.placed import PlacedDataset
from nqcast.datasets.previews import json_preview
from nqcast.storage.checkpoint import DOCUMENT, MANIFEST, checkpoint_files, read_checkpoint
from nqcast.storage.json_values import plain, read_object
from nqcast.storage.place import Place
from nqcast.storage.verified import VerificationError, read_verified, verify, write_folder

log = logging.getLogger(__name__)

FRAME, RECORD = "frame.parquet", "record.json"

Partition = dict[str, Any]


class VerifiedPartitionsDataset(PlacedDataset):
    """`{name: {"frame": DataFrame, "record": dict, "checkpoint": Checkpoint}}` as `<filepath>/<name>/`.

    The checkpoint may be left out, and the frame may come as the bytes of a parquet file. save() adds partitions, each
    in one rename; a node that yields saves as it goes. load() maps the name of every whole partition to a function that
    reads it; broken ones are named in a warning and left out.
    """

    def load(self) -> dict[str, Callable[[], Partition]]:
        found = self.path.iterdir() if self.path.is_dir() else ()
        folders = [folder for folder in found if folder.is_dir() and not folder.name.startswith(".")]
        whole = {}
        for folder in sorted(folders, key=lambda folder: folder.name):
            try:
                verify(folder / MANIFEST)
            except VerificationError as error:
                log.warning("partition %s is left out: %s", folder.name, error)
                continue
            whole[folder.name] = _reader(folder)
        return whole

    def save(self, data: dict[str, Partition]) -> None:
        if not isinstance(data, dict):
            raise DatasetError(f"expected partitions by name (a dict), found {type(data).__name__}: yield {{name: …}}")
        for name, partition in data.items():
            if Path(name).name != name or name.startswith("."):
                raise DatasetError(f"expected the name of a partition, found {name!r}: it would leave the folder")
            folder = self.path / name
            if folder.exists():
                self._move_aside(folder)
            try:
                write_folder(folder, _encode(partition, name), MANIFEST)
            except OSError as error:
                raise DatasetError(f"partition {name} was not saved: {error.strerror or error}") from error

    def preview(self) -> JSONPreview:
        """Names of the whole partitions for kedro-viz."""
        return json_preview(sorted(self.load()))

    def _move_aside(self, folder: Place) -> None:
        """A broken partition makes room under a name that no load takes; a whole one is never replaced."""
        try:
            verify(folder / MANIFEST)
        except VerificationError:
            aside: Any = folder.with_name(f".broken_{folder.name}_{secrets.token_hex(4)}")
            folder.rename(aside)
            return
        raise DatasetError(f"expected a new partition, found {folder} already: its name should tell contents apart")


def _encode(partition: Partition, name: str) -> dict[str, bytes]:
    if not isinstance(partition, dict) or set(partition) - {"checkpoint"} != {"frame", "record"}:
        raise DatasetError(
            f"expected frame, record and perhaps checkpoint in partition {name}, found {sorted(partition)}"
        )
    record = json.dumps(plain(partition["record"], RECORD), indent=2).encode()
    checkpoint = checkpoint_files(partition["checkpoint"]) if "checkpoint" in partition else {}
    return {FRAME: _parquet(partition["frame"]), RECORD: record, **checkpoint}


def _parquet(frame: pd.DataFrame | bytes) -> bytes:
    if isinstance(frame, bytes):
        return frame
    buffer = io.BytesIO()
    frame.to_parquet(buffer, engine="pyarrow", compression="zstd")
    return buffer.getvalue()


def _reader(folder: Place) -> Callable[[], Partition]:
    def read() -> Partition:
        frame, record = (read_verified(folder / name, folder / MANIFEST) for name in (FRAME, RECORD))
        content = read_object(record, folder / RECORD)
        partition: Partition = {"frame": pd.read_parquet(io.BytesIO(frame)), "record": content}
        if (folder / DOCUMENT).exists():
            partition["checkpoint"] = read_checkpoint(folder)
        return partition

    return read

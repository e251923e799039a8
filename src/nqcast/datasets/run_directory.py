"""The folder of working checkpoints, proved usable before anything is trained."""

import os
import secrets
import shutil
from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from nqcast.datasets.placed import PlacedDataset, in_words_of_kedro, placed
from nqcast.storage.place import working


class RunDirectoryDataset(PlacedDataset):
    """load() makes the folder where needed, proves that it can be written and has room, and gives its Path."""

    def __init__(self, *, filepath: str, min_free_gb: float = 1.0, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            filepath: local folder, of which each run makes its own below it; a store's URL below NQCAST_DATA stands for
                the same folder below NQCAST_WORK.
            min_free_gb: free space below which a run is refused, in GB (1e9 bytes).
            metadata: anything for plugins; ignored here.
        """
        with in_words_of_kedro():
            self.folder = working(placed(filepath))
        super().__init__(filepath=str(self.folder), metadata=metadata)
        self._min_free_gb = min_free_gb

    def load(self) -> Path:
        return usable_folder(self.folder, self._min_free_gb)

    def save(self, data: Any) -> None:
        raise DatasetError(
            "RunDirectoryDataset is the place of working checkpoints: write files below what load() gives"
        )

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "min_free_gb": self._min_free_gb}


def usable_folder(folder: Path, min_free_gb: float) -> Path:
    """`folder`, made where needed, writable and with room.

    Raises:
        DatasetError: it cannot be made or written, or less than `min_free_gb` GB are free; says which, and the cure.
    """
    folder = folder.absolute()
    probe = folder / f".probe.{secrets.token_hex(6)}.tmp"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(os.urandom(16))
        probe.unlink()
    except OSError as error:
        raise DatasetError(
            f"expected a folder that can be written, found {folder} ({error.strerror}): "
            "change its permissions or choose another data folder (NQCAST_DATA)"
        ) from error
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < min_free_gb:
        raise DatasetError(
            f"expected at least {min_free_gb:g} GB free for checkpoints in {folder}, found {free_gb:.2f} GB: "
            "free some space, choose another data folder (NQCAST_DATA) or lower min_free_gb in the catalog"
        )
    return folder

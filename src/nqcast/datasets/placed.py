"""Entries that lie below the data folder, here or in a store: what all have in common, logs that grow, run folders."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview

from nqcast.datasets.previews import json_preview
from nqcast.storage.append_only import append_record, read_records
from nqcast.storage.errors import StorageError, require_writable
from nqcast.storage.json_values import Json
from nqcast.storage.place import Place, place, working


def placed(filepath: str) -> Place:
    """The place that a catalog entry names; DatasetError where it is neither local nor in a store."""
    with in_words_of_kedro():
        return place(filepath)


@contextmanager
def in_words_of_kedro() -> Iterator[None]:
    """Raise bad input and a disk's trouble as a DatasetError: Kedro puts words of its own before any other."""
    try:
        yield
    except StorageError as error:
        raise DatasetError(error.strerror or str(error)) from error
    except ValueError as error:
        raise DatasetError(str(error)) from error


class PlacedDataset(AbstractDataset):
    """A file or folder, or names in a store; what is in it is its subclass's to say."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            filepath: local path, or the URL of a store.
            metadata: anything for plugins; ignored here.
        """
        self._filepath, self.metadata = placed(filepath), metadata

    @property
    def path(self) -> Place:
        """The file or folder."""
        return self._filepath

    def _exists(self) -> bool:
        return self.path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}


class AppendOnlyLogDataset(PlacedDataset):
    """save(record) appends one durable line, an empty record none; load() gives all, oldest first, [] before any."""

    def load(self) -> list[Json]:
        with in_words_of_kedro():
            return read_records(self.path)

    def save(self, data: Json) -> None:
        if data != {}:
            with in_words_of_kedro():
                append_record(self.path, data)

    def preview(self) -> JSONPreview:
        """The last twenty records for kedro-viz."""
        return json_preview(read_records(self.path)[-20:])


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
            self.folder = working(placed(filepath)).absolute()
        super().__init__(filepath=str(self.folder), metadata=metadata)
        self._min_free_gb = min_free_gb

    def load(self) -> Path:
        with in_words_of_kedro():
            require_writable(self.folder, int(1e9 * self._min_free_gb))
        return self.folder

    def save(self, data: Any) -> None:
        raise DatasetError(
            "expected files written below what load() gives, found a save of RunDirectoryDataset: write them there"
        )

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "min_free_gb": self._min_free_gb}

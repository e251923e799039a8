"""What the entries of a catalog have in common that lie below the data folder, on the local disk or in a store."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from kedro.io import AbstractDataset, DatasetError

from nqcast.storage.errors import StorageError
from nqcast.storage.place import Place, place


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

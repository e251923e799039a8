"""What the entries of a catalog have in common that lie on the local disk."""

from pathlib import Path, PurePosixPath
from typing import Any

from kedro.io import AbstractDataset, DatasetError


def local_path(filepath: str) -> PurePosixPath:
    """The path of a catalog entry; only local ones can be renamed atomically.

    Raises:
        DatasetError: the path names another protocol, such as s3:// or http://.
    """
    text = str(filepath).removeprefix("file://")
    if "://" in text:
        raise DatasetError(f"expected a local path, found {filepath!r}: copy the file here and give its local path")
    return PurePosixPath(text)


class LocalDataset(AbstractDataset):
    """A file or folder of the local disk; what is in it is its subclass's to say."""

    def __init__(self, *, filepath: str, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            filepath: local path.
            metadata: anything for plugins; ignored here.
        """
        self._filepath, self.metadata = local_path(filepath), metadata

    @property
    def path(self) -> Path:
        """The file or folder."""
        return Path(self._filepath)

    def _exists(self) -> bool:
        return self.path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._filepath}

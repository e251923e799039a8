"""The folder of working checkpoints, proved usable before anything is trained."""

from pathlib import Path
from typing import Any

from kedro.io import DatasetError

from nqcast.datasets.placed import PlacedDataset, in_words_of_kedro, placed
from nqcast.storage.errors import require_writable
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
            self.folder = working(placed(filepath)).absolute()
        super().__init__(filepath=str(self.folder), metadata=metadata)
        self._min_free_gb = min_free_gb

    def load(self) -> Path:
        with in_words_of_kedro():
            require_writable(self.folder, int(1e9 * self._min_free_gb))
        return self.folder

    def save(self, data: Any) -> None:
        raise DatasetError(
            "RunDirectoryDataset is the place of working checkpoints: write files below what load() gives"
        )

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "min_free_gb": self._min_free_gb}

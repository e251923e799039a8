"""Model checkpoints in the catalog: folders of the one checkpoint format, in versions."""

from typing import Any

from kedro.io import Version
from kedro_datasets._typing import JSONPreview

from nqcast.datasets.placed import placed
from nqcast.datasets.previews import json_preview
from nqcast.datasets.verified import VerifiedDataset
from nqcast.storage.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    checkpoint_files,
    read_checkpoint,
    refuse_pickle,
    verify_checkpoint,
)
from nqcast.storage.place import Place
from nqcast.storage.verified import VerificationError, write_folder


class CheckpointDataset(VerifiedDataset):
    """A `nqcast.storage.checkpoint.Checkpoint` in `<filepath>/<version>/<name>/`; always versioned."""

    versioned = True  # Kedro's flag: every entry of this type gets a version

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """
        Args:
            filepath: folder that holds the versions, here or in a store.
            version: set by Kedro; None loads the latest and saves a new one.
            metadata: anything for plugins; ignored here.
        """
        refuse_pickle(placed(filepath))
        super().__init__(filepath=filepath, version=version or Version(None, None), metadata=metadata)

    def preview(self) -> JSONPreview:
        """The metadata for kedro-viz, or None while nothing has been saved."""
        return json_preview(self.load().metadata.to_json()) if self.exists() else None

    def check_definition(self) -> None:
        """Nothing is checked, since no other dataset lies inside this one."""

    def _manifest(self, path: Place) -> Place:
        return path / MANIFEST

    def _verify(self, path: Place) -> None:
        verify_checkpoint(path)

    def _read(self, path: Place) -> Checkpoint:
        try:
            return read_checkpoint(path)  # verifies what it reads
        except CheckpointError as error:
            raise (error.__cause__ if isinstance(error.__cause__, VerificationError) else error) from None

    def _write(self, path: Place, data: Checkpoint) -> None:
        inside = {f"{path.name}/{name}": content for name, content in checkpoint_files(data).items()}
        write_folder(path.parent, inside, f"{path.name}/{MANIFEST}")

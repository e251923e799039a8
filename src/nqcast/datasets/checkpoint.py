"""Model checkpoints: safetensors and JSON in a versioned folder, never pickle."""

import json
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from kedro.io import DatasetError, Version
from kedro_datasets._typing import JSONPreview
from safetensors import SafetensorError
from safetensors.numpy import load as tensors_from_bytes
from safetensors.numpy import save as bytes_from_tensors

from nqcast.datasets.base import VerifiedDataset
from nqcast.datasets.documents import finite, plain
from nqcast.storage.verified import read_verified, sha256_hex, write_folder

TENSORS, DOCUMENT, MANIFEST = "model.safetensors", "checkpoint.json", "manifest.sha256"
_PICKLED = {".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".bin", ".joblib"}

Checkpoint = dict[str, Any]


class CheckpointDataset(VerifiedDataset[Checkpoint]):
    """`{"tensors": {name: array}, "metadata": dict}` in `<filepath>/<version>/<name>/`; always versioned.

    The folder holds model.safetensors, checkpoint.json and a SHA-256 manifest over both.
    """

    versioned = True  # Kedro's flag: every entry of this type gets a version

    def __init__(
        self, *, filepath: str, version: Version | None = None, metadata: dict[str, Any] | None = None
    ) -> None:
        """
        Args:
            filepath: local folder that holds the versions.
            version: set by Kedro; None loads the latest and saves a new one.
            metadata: anything for plugins; ignored here.
        """
        refuse_pickle(PurePosixPath(filepath))
        super().__init__(filepath=filepath, version=version or Version(None, None), metadata=metadata)

    def preview(self) -> JSONPreview:
        """The metadata for kedro-viz, or None while nothing has been saved."""
        return JSONPreview(json.dumps(finite(self.load()["metadata"]))) if self.exists() else None

    def _manifest(self, path: Path) -> Path:
        return path / MANIFEST

    def _read(self, path: Path) -> Checkpoint:
        return read_checkpoint(path)

    def _write(self, path: Path, data: Checkpoint) -> None:
        inside = {f"{path.name}/{name}": content for name, content in checkpoint_files(data).items()}
        write_folder(path.parent, inside, f"{path.name}/{MANIFEST}")

    def _verify(self, path: Path) -> None:
        read_verified(path / TENSORS, path / MANIFEST)
        read_verified(path / DOCUMENT, path / MANIFEST)

    def _content_hash(self, path: Path) -> str:
        return sha256_hex(self._manifest(path).read_bytes())


def read_checkpoint(folder: Path) -> Checkpoint:
    """The checkpoint in `folder` (model.safetensors, checkpoint.json and their manifest).

    Raises:
        DatasetError: a pickle, or a file that is no safetensors.
        VerificationError: a file is missing or not what was written.
    """
    _refuse_pickle_inside(folder)
    tensors = read_verified(folder / TENSORS, folder / MANIFEST)
    document = read_verified(folder / DOCUMENT, folder / MANIFEST)
    try:
        return {"tensors": tensors_from_bytes(tensors), "metadata": json.loads(document)}
    except SafetensorError as error:
        raise DatasetError(f"expected safetensors in {folder / TENSORS}, found something else: {error}") from error


def checkpoint_files(data: Checkpoint) -> dict[str, bytes]:
    """The content of a checkpoint's two files by name; DatasetError where `data` is no checkpoint."""
    tensors, metadata = _checked(data)
    document = json.dumps(plain(metadata, "metadata"), indent=2, ensure_ascii=False) + "\n"
    return {TENSORS: bytes_from_tensors(tensors), DOCUMENT: document.encode()}


def refuse_pickle(path: Path | PurePosixPath) -> None:
    """Raise DatasetError for a file name of the pickle family: reading such a file runs the code inside it."""
    if path.suffix.lower() in _PICKLED:
        raise DatasetError(
            f"expected a checkpoint folder with {TENSORS} and {DOCUMENT}, found {path.name}: {path.suffix} files hold "
            "pickles, which run code when they are read, so none is opened here. Convert the weights with "
            "safetensors.torch.save_file where you trust the file, and save them through this dataset"
        )


def _refuse_pickle_inside(folder: Path) -> None:
    if not (folder / TENSORS).exists() and folder.is_dir():
        for inside in folder.iterdir():
            refuse_pickle(inside)


def _checked(data: Checkpoint) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if not isinstance(data, dict) or set(data) != {"tensors", "metadata"}:
        found = sorted(map(str, data)) if isinstance(data, dict) else type(data).__name__
        raise DatasetError(f'expected {{"tensors": {{name: array}}, "metadata": dict}}, found {found}')
    tensors = {}
    for name, array in data["tensors"].items():
        if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
            kind = getattr(array, "dtype", type(array).__name__)
            raise DatasetError(
                f"expected a numeric NumPy array as tensor {name!r}, found {kind}: use tensor.detach().cpu().numpy()"
            )
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        tensors[name] = np.array(native, order="C", copy=None)
    if not isinstance(data["metadata"], dict):
        raise DatasetError(f"expected a dict as metadata, found {type(data['metadata']).__name__}")
    return tensors, data["metadata"]

"""Checkpoints that prove themselves: written whole or not at all, verified by SHA-256 whenever they are read.

A checkpoint is a folder: model.safetensors, optimizer.safetensors (with the RNG state), state.json, manifest.json.
Names sort by progress: checkpoint_epoch_0003, checkpoint_epoch_0003_batch_000120, checkpoint_epoch_0004.
"""

import hashlib
import json
import logging
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import safetensors.torch
from torch import Tensor

from nqcast.storage.errors import StorageError, require_free_space, storage_errors

logger = logging.getLogger(__name__)

MANIFEST, STATE = "manifest.json", "state.json"
MODEL, OPTIMIZER = "model.safetensors", "optimizer.safetensors"
LATEST, BEST = "checkpoint_latest", "checkpoint_best"
LEAST_KEPT = 2


class CheckpointError(ValueError):
    """A checkpoint is missing, broken, or belongs to something else."""


@dataclass(frozen=True)
class Checkpoint:
    """Content of a verified checkpoint."""

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    state: dict[str, Any]


def checkpoint_name(epoch: int, batch: int = 0) -> str:
    """Folder name after `epoch` whole epochs and `batch` micro-batches of the next one."""
    return f"checkpoint_epoch_{epoch:04d}" + (f"_batch_{batch:06d}" if batch else "")


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write all files beside `folder`, flush them to disk, then rename: a kill leaves the old folder or the new.

    Raises StorageError, leaving nothing behind, where the disk is full or cannot be written.
    """
    files = {
        MODEL: safetensors.torch.save(_storable(checkpoint.model)),
        OPTIMIZER: safetensors.torch.save(_storable(checkpoint.optimizer)),
        STATE: json.dumps(checkpoint.state, allow_nan=False).encode(),
    }
    digests = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    files[MANIFEST] = json.dumps({"format": 1, "files": digests}, indent=1).encode()
    temporary = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with storage_errors(folder, size := sum(map(len, files.values()))):
            folder.parent.mkdir(parents=True, exist_ok=True)
            require_free_space(folder.parent, size)
            _write_through(temporary, files)
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    discarded = folder.with_name(f".old-{folder.name}-{os.getpid()}")
    if folder.exists():
        folder.rename(discarded)
    temporary.rename(folder)
    _sync_folder(folder.parent)
    shutil.rmtree(discarded, ignore_errors=True)


def _write_through(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir()
    for name, data in files.items():
        with (folder / name).open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    _sync_folder(folder)


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read and verify a checkpoint folder. Raises CheckpointError saying what is wrong and what to do."""
    folder = Path(path)
    if folder.is_file():
        raise CheckpointError(
            f"expected a checkpoint folder with {MANIFEST}, found the file {folder}; .pt and .ckpt files are pickles, "
            "which can run code when read, and are never loaded: give a folder such as checkpoint_best"
        )
    if not folder.is_dir():
        raise CheckpointError(f"expected a checkpoint folder, found nothing at {folder}; check the path")
    files = _verified_files(folder)
    return Checkpoint(
        safetensors.torch.load(files[MODEL]), safetensors.torch.load(files[OPTIMIZER]), json.loads(files[STATE])
    )


def model_arrays(path: Path | str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Model weights as numpy arrays, and the state, of a verified checkpoint folder."""
    checkpoint = read_checkpoint(path)
    return {name: tensor.numpy() for name, tensor in checkpoint.model.items()}, checkpoint.state


def _verified_files(folder: Path) -> dict[str, bytes]:
    try:
        listed = json.loads((folder / MANIFEST).read_bytes())["files"]
        expected = {name: listed[name]["sha256"] for name in (MODEL, OPTIMIZER, STATE)}
        files = {name: (folder / name).read_bytes() for name in expected}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"expected a whole checkpoint in {folder}, found it incomplete or unreadable ({error}); use another one"
        ) from error
    for name, data in files.items():
        if hashlib.sha256(data).hexdigest() != expected[name]:
            raise CheckpointError(
                f"expected {folder / name} as its manifest describes it, found other content; use another checkpoint"
            )
    return files


class CheckpointStore:
    """The checkpoints of one run directory: the best by val_loss, the latest, and links to both."""

    def __init__(self, directory: Path, top_k: int) -> None:
        self.directory = directory
        self.top_k = top_k
        self.val_losses: dict[str, float | None] = {}
        self.broken: set[str] = set()  # found not to verify; they take no good one's place

    def folders(self) -> list[Path]:
        """Numbered checkpoints on disk, oldest first."""
        found = self.directory.glob("checkpoint_epoch_*")
        return sorted(path for path in found if path.is_dir() and not path.is_symlink())

    def save(self, name: str, checkpoint: Checkpoint, val_loss: float | None) -> Path:
        """Write a checkpoint, point the links at the latest and the best, then remove what is not to be kept.

        Raises StorageError, naming the last whole checkpoint, where this one cannot be written.
        """
        folder = self.directory / name
        try:
            write_checkpoint(folder, checkpoint)
        except StorageError as error:
            last = (self.newest_verified() or (None,))[0]
            raise StorageError(
                error.errno,
                f"{error.strerror}; the last whole checkpoint is {last}, from which the same command goes on",
                str(folder),
            ) from error
        self.val_losses[name] = val_loss
        self.broken.discard(name)
        self.settle(name)
        return folder

    def settle(self, latest: str) -> None:
        """Point the links at `latest` and the best, then remove what is not to be kept.

        Also done on resume: a kill may have come between a checkpoint and its links.
        """
        self._link(LATEST, latest)
        best = self.ranked()
        if best:
            self._link(BEST, best[0])
        self._prune(best[: self.top_k])

    def ranked(self) -> list[str]:
        """Names of the checkpoints with a finite val_loss, lowest first, the earlier one first among equals."""
        losses = {folder.name: self._val_loss(folder) for folder in self.folders() if folder.name not in self.broken}
        return [name for _, name in sorted((loss, name) for name, loss in losses.items() if loss is not None)]

    def newest_verified(self) -> tuple[Path, Checkpoint] | None:
        """The newest checkpoint that verifies; broken ones are named in a warning and passed over."""
        for folder in reversed(self.folders()):
            try:
                return folder, read_checkpoint(folder)
            except CheckpointError as error:
                logger.warning("checkpoint %s passed over: %s", folder.name, error)
                self.broken.add(folder.name)
        return None

    def best_verified(self) -> Path | None:
        """The folder with the lowest val_loss that verifies."""
        for name in self.ranked():
            try:
                read_checkpoint(self.directory / name)
            except CheckpointError as error:
                logger.warning("checkpoint %s passed over: %s", name, error)
                self.broken.add(name)
            else:
                return self.directory / name
        return None

    def clean(self) -> None:
        """Remove what killed writers left behind; a checkpoint set aside and never replaced comes back."""
        for path in self.directory.glob(".old-checkpoint_*"):
            folder = self.directory / path.name.removeprefix(".old-").rpartition("-")[0]
            if not folder.exists():
                path.rename(folder)
        for pattern in (".tmp-checkpoint_epoch_*", ".old-checkpoint_*"):
            for path in self.directory.glob(pattern):
                shutil.rmtree(path)

    def _val_loss(self, folder: Path) -> float | None:
        if folder.name not in self.val_losses:
            try:
                self.val_losses[folder.name] = json.loads((folder / STATE).read_bytes())["val_loss"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("checkpoint %s has no readable state: %s", folder.name, error)
                self.val_losses[folder.name] = None
        return self.val_losses[folder.name]

    def _prune(self, best: list[str]) -> None:
        folders = self.folders()
        sound = [folder.name for folder in folders if folder.name not in self.broken]
        kept = {*best, *sound[-LEAST_KEPT:]}
        for folder in folders:
            if folder.name not in kept:
                discarded = folder.with_name(f".tmp-{folder.name}-{os.getpid()}")  # a kill leaves no half checkpoint
                folder.rename(discarded)
                shutil.rmtree(discarded)
                self.val_losses.pop(folder.name, None)

    def _link(self, link: str, name: str) -> None:
        temporary = self.directory / f".tmp-{link}"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(name)
        temporary.replace(self.directory / link)


def _storable(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""The checkpoints of one run directory: the best by val_loss, the latest, and links to both.

Names sort by progress: checkpoint_epoch_0003, checkpoint_epoch_0003_batch_000120, checkpoint_epoch_0004.
"""

import logging
import secrets
import shutil
from pathlib import Path

from nqcast.storage.checkpoint import MANIFEST, Checkpoint, CheckpointError, checkpoint_files, read_checkpoint
from nqcast.storage.checkpoint import training_state_in as state_in
from nqcast.storage.errors import StorageError
from nqcast.storage.json_values import Json
from nqcast.storage.verified import restore_replaced, sync_folder, write_folder

logger = logging.getLogger(__name__)

LATEST, BEST = "checkpoint_latest", "checkpoint_best"
LEAST_KEPT = 2


def checkpoint_name(epoch: int, batch: int = 0) -> str:
    """Folder name after `epoch` whole epochs and `batch` micro-batches of the next one."""
    return f"checkpoint_epoch_{epoch:04d}" + (f"_batch_{batch:06d}" if batch else "")


class CheckpointStore:
    """What a run writes, and what it goes on from; only the process that holds the directory's lock writes."""

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
            write_folder(folder, checkpoint_files(checkpoint), MANIFEST, replace=True)
        except StorageError as error:
            last = (self.newest_verified() or (None,))[0]
            raise StorageError(
                error.errno,
                f"{error.strerror}; the last whole checkpoint is {last}, from which the same command goes on",
                str(folder),
            ) from error
        self.val_losses[name] = val_loss
        self.broken.discard(name)
        self.point_links(name)
        return folder

    def point_links(self, latest: str) -> None:
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
            found = self._read(folder)
            if found is not None:
                return folder, found
        return None

    def best_verified(self) -> Path | None:
        """The folder with the lowest val_loss that verifies."""
        folders = (self.directory / name for name in self.ranked())
        return next((folder for folder in folders if self._read(folder) is not None), None)

    def clean(self) -> None:
        """Remove what killed writers left behind; a checkpoint moved aside and never replaced comes back."""
        if self.directory.is_dir():
            restore_replaced(self.directory)
            for path in self.directory.glob(".tmp-checkpoint_*"):  # as earlier versions named them
                shutil.rmtree(path)

    def _read(self, folder: Path) -> Checkpoint | None:
        try:
            found = read_checkpoint(folder)
            if found.training is None:
                raise CheckpointError(f"expected a working checkpoint in {folder}, found one without training state")
            _require_own_name(folder, found.training.state)
        except CheckpointError as error:
            logger.warning("checkpoint %s passed over: %s", folder.name, error)
            self.broken.add(folder.name)
            return None
        return found

    def _val_loss(self, folder: Path) -> float | None:
        if folder.name not in self.val_losses:
            try:
                state = state_in(folder)
                _require_own_name(folder, state)
                self.val_losses[folder.name] = state["val_loss"]
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
                discarded = _hidden(folder)  # a kill leaves no half checkpoint
                folder.rename(discarded)
                shutil.rmtree(discarded)
                self.val_losses.pop(folder.name, None)

    def _link(self, link: str, name: str) -> None:
        """Point a link at a checkpoint in one step; a copy of the folder may have made a folder of it."""
        path = self.directory / link
        if path.is_dir() and not path.is_symlink():
            path.rename(discarded := _hidden(path))
            shutil.rmtree(discarded)
        temporary = _hidden(path)
        temporary.symlink_to(name)
        temporary.replace(path)
        sync_folder(self.directory)


def _require_own_name(folder: Path, state: Json) -> None:
    """Raise CheckpointError where a folder's name tells of other progress than its state: a copy, put in its place."""
    own = checkpoint_name(state["progress"]["epoch"], state["progress"]["batch"])
    if folder.name != own:
        raise CheckpointError(f"expected the state of {folder.name}, found that of {own}: it was copied or renamed")


def _hidden(path: Path) -> Path:
    """A name beside `path` under which a rest is swept up."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")

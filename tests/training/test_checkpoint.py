"""The store of a run: the best, the newest, nothing broken and nothing under another's name."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from nqcast.storage.checkpoint import Checkpoint, Metadata, TrainingState, read_checkpoint
from nqcast.training.checkpoint import CheckpointStore, checkpoint_name
from nqcast.training.run_card import move_aside


def content(value: float | None = 1.0, epoch: int = 0, batch: int = 0) -> Checkpoint:
    arrays = {"model.w": np.full((2, 3), value or 0.0, np.float32)}
    state = {"val_loss": value, "text": "ä", "progress": {"epoch": epoch, "batch": batch}}
    return Checkpoint(arrays, Metadata(epoch=epoch), TrainingState({"optimizer.0.exp_avg": -arrays["model.w"]}, state))


def save(store: CheckpointStore, value: float | None, epoch: int, batch: int = 0) -> Path:
    return store.save(checkpoint_name(epoch, batch), content(value, epoch, batch), value)


def test_a_kill_before_the_rename_leaves_the_old_checkpoint_and_no_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = CheckpointStore(tmp_path, 3)
    folder = save(store, 1.0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            save(store, 2.0, 1)
    found = read_checkpoint(folder)
    assert found.training is not None and found.training.state["val_loss"] == 1.0
    rests = [tmp_path / ".tmp-checkpoint_epoch_0001-1", tmp_path / ".checkpoint_epoch_0001.0123456789ab.tmp"]
    for rest in rests:
        rest.mkdir()
    store.clean()
    assert not any(rest.exists() for rest in rests)


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = CheckpointStore(tmp_path, 3), Path.rename
    save(store, 1.0, 1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", lambda path, to: real(path, to) if "old" in to.name else 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save(store, 2.0, 1)
    assert store.newest_verified() is None
    store.clean()
    found = store.newest_verified()
    assert found is not None and found[1].training is not None
    assert found[1].training.state["val_loss"] == 1.0


def test_the_store_keeps_the_best_and_the_two_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=2)
    for epoch, loss in enumerate([5.0, 1.0, 4.0, 2.0, 6.0, 7.0, 8.0]):
        save(store, loss, epoch)
    assert [folder.name[-1] for folder in store.folders()] == ["1", "3", "5", "6"]
    assert store.ranked()[0] == (tmp_path / "checkpoint_best").resolve().name == "checkpoint_epoch_0001"
    assert (tmp_path / "checkpoint_latest").readlink() == Path("checkpoint_epoch_0006")
    assert CheckpointStore(tmp_path, 2).ranked() == store.ranked()  # what is on disk is enough to go on


def test_a_broken_best_gives_way_to_the_next(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=3)
    for epoch, loss in enumerate([3.0, 1.0, 2.0]):
        save(store, loss, epoch)
    (tmp_path / "checkpoint_epoch_0001" / "model.safetensors").write_bytes(b"")
    assert store.best_verified() == tmp_path / "checkpoint_epoch_0002"


def test_checkpoints_without_a_loss_are_never_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=3)
    save(store, None, 0, 8)
    assert store.ranked() == []
    assert not (tmp_path / "checkpoint_best").is_symlink()


def test_names_sort_by_progress() -> None:
    names = [checkpoint_name(*at) for at in [(0, 0), (0, 20), (0, 100), (1, 0), (2, 4), (10, 0)]]
    assert names == sorted(names)


def test_a_broken_checkpoint_takes_no_good_ones_place(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=1)
    for epoch, loss in enumerate([3.0, 2.0, 1.0]):
        save(store, loss, epoch)
    (tmp_path / checkpoint_name(2) / "model.safetensors").write_bytes(b"")
    resumed = CheckpointStore(tmp_path, top_k=1)
    found = resumed.newest_verified()
    assert found is not None and found[0].name == checkpoint_name(1)
    resumed.point_links(found[0].name)
    assert (tmp_path / "checkpoint_best").resolve().name == checkpoint_name(1)
    save(resumed, None, 1, 7)
    assert [folder.name for folder in resumed.folders()] == [checkpoint_name(1), checkpoint_name(1, 7)]


def test_an_old_checkpoint_under_a_later_ones_name_is_neither_the_newest_nor_the_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=3)
    for epoch, loss in enumerate([1.0, 2.0]):
        save(store, loss, epoch)
    shutil.copytree(tmp_path / checkpoint_name(0), tmp_path / checkpoint_name(99))
    resumed = CheckpointStore(tmp_path, top_k=3)
    found = resumed.newest_verified()
    assert found is not None and found[0].name == checkpoint_name(1)
    assert resumed.ranked() == [checkpoint_name(0), checkpoint_name(1)]


def test_a_copy_that_made_folders_of_the_links_goes_on(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path / "run", top_k=3)
    for epoch, loss in enumerate([1.0, 2.0]):
        save(store, loss, epoch)
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    assert (tmp_path / "copy" / "checkpoint_best").is_dir() and not (tmp_path / "copy" / "checkpoint_best").is_symlink()
    copy = CheckpointStore(tmp_path / "copy", top_k=3)
    copy.clean()
    save(copy, 0.5, 2)
    assert (tmp_path / "copy" / "checkpoint_best").readlink() == Path(checkpoint_name(2))
    assert (tmp_path / "copy" / "checkpoint_latest").readlink() == Path(checkpoint_name(2))
    assert not list((tmp_path / "copy").glob(".*"))


def test_an_earlier_run_is_moved_aside_under_a_new_number_whichever_were_deleted(tmp_path: Path) -> None:
    for _ in range(2):
        save(CheckpointStore(tmp_path, 3), 1.0, 0)
        move_aside(tmp_path)
    (tmp_path / "replaced_001").rename(tmp_path / "deleted")
    save(CheckpointStore(tmp_path, 3), 1.0, 0)
    move_aside(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("replaced_*")) == ["replaced_002", "replaced_003"]

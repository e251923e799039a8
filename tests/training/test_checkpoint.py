"""No flip, cut or kill may pass for a checkpoint."""

import json
import random
from pathlib import Path

import pytest
import torch

from nqcast.training.checkpoint import (
    Checkpoint,
    CheckpointError,
    CheckpointStore,
    checkpoint_name,
    model_arrays,
    read_checkpoint,
    write_checkpoint,
)


def content(value: float = 1.0) -> Checkpoint:
    return Checkpoint(
        {"w": torch.full((2, 3), value)}, {"0.exp_avg": torch.full((2, 3), -value)}, {"val_loss": value, "text": "ä"}
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", content())
    back = read_checkpoint(tmp_path / "c")
    assert torch.equal(back.model["w"], content().model["w"])
    assert torch.equal(back.optimizer["0.exp_avg"], content().optimizer["0.exp_avg"])
    assert back.state == content().state
    arrays, state = model_arrays(tmp_path / "c")
    assert arrays["w"].sum() == 6.0
    assert state["val_loss"] == 1.0


def test_flips_and_cuts_anywhere_are_never_loaded_as_something_else(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c", content())
    draw = random.Random(0)
    files = sorted((tmp_path / "c").iterdir())
    for _ in range(300):
        file = draw.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        if draw.random() < 0.7:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        else:
            del bad[draw.randrange(len(bad)) :]
        file.write_bytes(bad)
        try:
            back = read_checkpoint(tmp_path / "c")
        except CheckpointError:
            pass
        else:  # a change of no meaning (the manifest's byte counts or blanks) may pass; then nothing may differ
            assert file.name == "manifest.json"
            assert torch.equal(back.model["w"], content().model["w"])
            assert back.state == content().state
        file.write_bytes(good)


@pytest.mark.parametrize("missing", ["manifest.json", "state.json", "model.safetensors", "optimizer.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    write_checkpoint(tmp_path / "c", content())
    (tmp_path / "c" / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        read_checkpoint(tmp_path / "c")


def test_a_pickle_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        read_checkpoint(tmp_path / "model.pt")


def test_nothing_at_the_path_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="found nothing"):
        read_checkpoint(tmp_path / "absent")


def test_a_kill_before_the_rename_leaves_the_old_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(tmp_path / "c", content(1.0))
    monkeypatch.setattr(Path, "rename", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path / "c", content(2.0))
    assert read_checkpoint(tmp_path / "c").state["val_loss"] == 1.0
    store = CheckpointStore(tmp_path, 3)
    monkeypatch.undo()
    (tmp_path / ".tmp-checkpoint_epoch_0001-1").mkdir()
    store.clean()
    assert not (tmp_path / ".tmp-checkpoint_epoch_0001-1").exists()


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store, real = CheckpointStore(tmp_path, 3), Path.rename
    store.save(checkpoint_name(1), content(1.0), 1.0)
    monkeypatch.setattr(Path, "rename", lambda path, to: real(path, to) if "old" in to.name else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.save(checkpoint_name(1), content(2.0), 2.0)
    monkeypatch.undo()
    assert store.newest_verified() is None
    store.clean()
    found = store.newest_verified()
    assert found is not None
    assert found[1].state["val_loss"] == 1.0


def test_the_store_keeps_the_best_and_the_two_newest(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=2)
    for epoch, loss in enumerate([5.0, 1.0, 4.0, 2.0, 6.0, 7.0, 8.0]):
        store.save(checkpoint_name(epoch), content(loss), loss)
    assert [folder.name[-1] for folder in store.folders()] == ["1", "3", "5", "6"]
    assert store.ranked()[0] == (tmp_path / "checkpoint_best").resolve().name == "checkpoint_epoch_0001"
    assert (tmp_path / "checkpoint_latest").readlink() == Path("checkpoint_epoch_0006")
    assert CheckpointStore(tmp_path, 2).ranked() == store.ranked()  # what is on disk is enough to go on


def test_a_broken_best_gives_way_to_the_next(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=3)
    for epoch, loss in enumerate([3.0, 1.0, 2.0]):
        store.save(checkpoint_name(epoch), content(loss), loss)
    (tmp_path / "checkpoint_epoch_0001" / "model.safetensors").write_bytes(b"")
    assert store.best_verified() == tmp_path / "checkpoint_epoch_0002"


def test_checkpoints_without_a_loss_are_never_best(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=3)
    store.save(checkpoint_name(0, 8), content(), None)
    assert store.ranked() == []
    assert not (tmp_path / "checkpoint_best").is_symlink()


def test_names_sort_by_progress() -> None:
    names = [checkpoint_name(*at) for at in [(0, 0), (0, 20), (0, 100), (1, 0), (2, 4), (10, 0)]]
    assert names == sorted(names)


def test_no_state_needs_more_than_json(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_checkpoint(tmp_path / "c", Checkpoint({}, {}, {"val_loss": float("nan")}))
    write_checkpoint(tmp_path / "c", content())
    assert json.loads((tmp_path / "c" / "manifest.json").read_text())["format"] == 1


def test_a_broken_checkpoint_takes_no_good_ones_place(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, top_k=1)
    for epoch, loss in enumerate([3.0, 2.0, 1.0]):
        store.save(checkpoint_name(epoch), content(loss), loss)
    (tmp_path / checkpoint_name(2) / "model.safetensors").write_bytes(b"")
    resumed = CheckpointStore(tmp_path, top_k=1)
    found = resumed.newest_verified()
    assert found is not None and found[0].name == checkpoint_name(1)
    resumed.settle(found[0].name)
    assert (tmp_path / "checkpoint_best").resolve().name == checkpoint_name(1)
    resumed.save(checkpoint_name(1, 7), content(9.0), None)
    kept = [folder.name for folder in resumed.folders()]
    assert kept == [checkpoint_name(1), checkpoint_name(1, 7)]

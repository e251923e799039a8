"""One format: no flip, cut or pickle passes for a checkpoint, and folders of earlier versions are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from nqcast.storage.checkpoint import (
    MANIFEST,
    Checkpoint,
    CheckpointError,
    Metadata,
    TrainingState,
    checkpoint_files,
    read_checkpoint,
)
from nqcast.storage.verified import write_folder

WEIGHTS = {"model.w": np.arange(6, dtype=np.float32).reshape(2, 3), "scale.beta": np.array([0.5, np.pi])}
STATE = TrainingState({"optimizer.0.exp_avg": np.ones((2, 3), np.float32)}, {"val_loss": 1.0, "text": "ä"})
WORKING = Checkpoint(WEIGHTS, Metadata(fingerprint="f", horizons=("15m", "4h"), quantiles=(0.05, 0.5)), STATE)


def write(folder: Path, checkpoint: Checkpoint = WORKING) -> Path:
    write_folder(folder, checkpoint_files(checkpoint), MANIFEST)
    return folder


def assert_same(found: Checkpoint, expected: Checkpoint) -> None:
    assert found.metadata == expected.metadata
    assert (found.training is None) == (expected.training is None)
    pairs = [(found.tensors, expected.tensors)]
    if found.training is not None and expected.training is not None:
        assert found.training.state == expected.training.state
        pairs.append((found.training.tensors, expected.training.tensors))
    for mine, theirs in pairs:
        assert mine.keys() == theirs.keys()
        for name, array in theirs.items():
            np.testing.assert_array_equal(mine[name], array, strict=True)


def test_what_is_written_is_read_back_with_what_training_goes_on_from_and_without(tmp_path: Path) -> None:
    assert_same(read_checkpoint(write(tmp_path / "working")), WORKING)
    artifact = WORKING.without_training()
    assert_same(read_checkpoint(write(tmp_path / "artifact", artifact)), artifact)
    assert sorted(path.name for path in (tmp_path / "artifact").iterdir()) == [
        *("checkpoint.json", "manifest.sha256", "model.safetensors")
    ]


def test_flips_and_cuts_anywhere_are_never_loaded_as_something_else(tmp_path: Path) -> None:
    folder, draw = write(tmp_path / "c"), random.Random(0)
    files = sorted(folder.iterdir())
    for _ in range(300):
        file = draw.choice(files)
        good = file.read_bytes()
        bad = bytearray(good)
        if draw.random() < 0.7:
            bad[draw.randrange(len(bad))] ^= 1 << draw.randrange(8)
        else:
            del bad[draw.randrange(len(bad)) :]
        file.write_bytes(bad)
        with contextlib.suppress(CheckpointError):
            assert_same(read_checkpoint(folder), WORKING)
        file.write_bytes(good)


@pytest.mark.parametrize("missing", ["manifest.sha256", "checkpoint.json", "model.safetensors", "training.safetensors"])
def test_a_missing_file_is_named(tmp_path: Path, missing: str) -> None:
    (write(tmp_path / "c") / missing).unlink()
    with pytest.raises(CheckpointError, match=missing):
        read_checkpoint(tmp_path / "c")


def test_a_pickle_and_nothing_at_all_are_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(b"\x80\x04.")
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        read_checkpoint(tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="pickles, which can run code"):
        read_checkpoint(tmp_path)
    with pytest.raises(CheckpointError, match="found nothing"):
        read_checkpoint(tmp_path / "absent")


def test_a_later_format_and_an_unknown_field_are_refused(tmp_path: Path) -> None:
    for number, change in enumerate(({"format": 99}, {"law": 1})):
        files = checkpoint_files(WORKING)
        files["checkpoint.json"] = json.dumps(json.loads(files["checkpoint.json"]) | change).encode()
        write_folder(tmp_path / str(number), files, MANIFEST)
        with pytest.raises(CheckpointError, match="version of nqcast"):
            read_checkpoint(tmp_path / str(number))


def test_the_catalogs_folders_of_earlier_versions_are_read_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    document = {"fingerprint": "f", "horizons": ["15m"], "quantiles": [0.5], "epoch": 3, "version": "0.1.0"}
    files = {"model.safetensors": safetensors.numpy.save(WEIGHTS), "checkpoint.json": json.dumps(document).encode()}
    write_folder(tmp_path / "old", files, MANIFEST)
    with caplog.at_level(logging.INFO):
        found = read_checkpoint(tmp_path / "old")
    metadata = Metadata(fingerprint="f", horizons=("15m",), quantiles=(0.5,), epoch=3, version="0.1.0")
    assert_same(found, Checkpoint(WEIGHTS, metadata))
    assert [record.message.count("earlier format") for record in caplog.records] == [1]


def write_first_format(folder: Path, weights: dict, moments: dict, state: dict) -> Path:
    """A working checkpoint as version 0.1.0 wrote it."""
    files = {
        "model.safetensors": safetensors.numpy.save(weights),
        "optimizer.safetensors": safetensors.numpy.save(moments),
        "state.json": json.dumps(state).encode(),
    }
    digests = {name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)} for name, data in files.items()}
    folder.mkdir(parents=True)
    for name, data in {**files, "manifest.json": json.dumps({"format": 1, "files": digests}).encode()}.items():
        (folder / name).write_bytes(data)
    return folder


def test_working_folders_of_earlier_versions_are_read_with_one_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = {"val_loss": 1.0, "train_config": {"seed": 3}, "model_config": {"size": "test"}}
    moments = {"0.exp_avg": np.ones(2, np.float32), "rng.cpu": np.zeros(4, np.uint8)}
    folder = write_first_format(tmp_path / "old", {"w": WEIGHTS["model.w"]}, moments, state)
    with caplog.at_level(logging.INFO):
        found = read_checkpoint(folder)
    training = TrainingState({"optimizer.0.exp_avg": moments["0.exp_avg"], "rng.cpu": moments["rng.cpu"]},
                             {"val_loss": 1.0})  # fmt: skip
    metadata = Metadata(model={"size": "test"}, train={"seed": 3})
    assert_same(found, Checkpoint({"model.w": WEIGHTS["model.w"]}, metadata, training))
    assert [record.message.count("earlier format") for record in caplog.records] == [1]
    (folder / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"state\.json as its manifest describes it"):
        read_checkpoint(folder)


def test_the_hash_of_the_weights_is_theirs_alone() -> None:
    name = WORKING.weights_sha256
    assert replace(WORKING, metadata=Metadata(), training=None).weights_sha256 == name
    turned = {**WEIGHTS, "model.w": np.asfortranarray(WEIGHTS["model.w"])}
    assert replace(WORKING, tensors=dict(reversed(turned.items()))).weights_sha256 == name
    assert replace(WORKING, tensors={**WEIGHTS, "model.w": WEIGHTS["model.w"] + 1e-6}).weights_sha256 != name
    assert replace(WORKING, tensors={**WEIGHTS, "model.w": WEIGHTS["model.w"].T}).weights_sha256 != name
    other = {"model.v": WEIGHTS["model.w"], "scale.beta": WEIGHTS["scale.beta"]}
    assert replace(WORKING, tensors=other).weights_sha256 != name

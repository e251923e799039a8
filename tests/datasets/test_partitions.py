"""Partitions: what was saved comes back, what is broken is left out, what is whole is never replaced."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError

from nqcast.datasets import VerifiedPartitionsDataset
from nqcast.storage.checkpoint import Checkpoint, Metadata

FILES = ("frame.parquet", "model.safetensors", "checkpoint.json", "record.json")


def partition(seed: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    ts = pd.date_range("2016-01-04", periods=20, freq="5min", tz="UTC", unit="ns")
    frame = pd.DataFrame({"ts": ts, "q05": rng.normal(size=20), "forecast": pd.array(["model"] * 20, dtype="string")})
    tensors = {"model.w": rng.normal(size=(3, 2)).astype(np.float32)}
    return {"frame": frame, "checkpoint": Checkpoint(tensors, Metadata(epoch=seed)), "record": {"seed": seed}}


@pytest.fixture
def dataset(tmp_path: Path) -> VerifiedPartitionsDataset:
    return VerifiedPartitionsDataset(filepath=str(tmp_path / "a b" / "folds"))


def test_partitions_come_back_as_they_were_saved_one_by_one(dataset: VerifiedPartitionsDataset) -> None:
    assert dataset.load() == {}
    for seed in (1, 2):
        dataset.save({f"fold_{seed}": partition(seed)})
    loaded = dataset.load()
    assert list(loaded) == ["fold_1", "fold_2"]
    expected, found = partition(2), loaded["fold_2"]()
    pd.testing.assert_frame_equal(found["frame"], expected["frame"])
    np.testing.assert_array_equal(
        found["checkpoint"].tensors["model.w"], expected["checkpoint"].tensors["model.w"], strict=True
    )
    assert found["checkpoint"].metadata.epoch == 2
    assert found["record"] == {"seed": 2}
    dataset.save({})
    assert len(dataset.load()) == 2


@pytest.mark.parametrize("file", FILES)
def test_a_broken_partition_is_left_out_and_can_be_made_again(
    dataset: VerifiedPartitionsDataset, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset.save({"fold_1": partition(1), "fold_2": partition(2)})
    path = tmp_path / "a b" / "folds" / "fold_1" / file
    path.write_bytes(path.read_bytes()[:-1])
    assert list(dataset.load()) == ["fold_2"]
    assert "fold_1 is left out" in caplog.text
    dataset.save({"fold_1": partition(1)})
    assert dataset.load()["fold_1"]()["record"] == {"seed": 1}


def test_a_whole_partition_is_never_replaced(dataset: VerifiedPartitionsDataset) -> None:
    dataset.save({"fold_1": partition(1)})
    with pytest.raises(DatasetError, match=r"found .*fold_1 already"):
        dataset.save({"fold_1": partition(2)})
    assert dataset.load()["fold_1"]()["record"] == {"seed": 1}


def test_something_else_is_refused_before_anything_is_written(
    dataset: VerifiedPartitionsDataset, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="expected frame, record and perhaps checkpoint"):
        dataset.save({"fold_1": {"frame": partition(1)["frame"]}})
    with pytest.raises(DatasetError, match="expected partitions by name"):
        dataset.save([partition(1)])
    assert not list(tmp_path.rglob("*.parquet"))

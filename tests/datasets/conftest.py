"""A catalog with one entry of each written kind, made from YAML as a user's would be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from kedro.io import DataCatalog

from nqcast.storage.checkpoint import Checkpoint, Metadata

CATALOG = """
versioned_frame:    {{type: nqcast.datasets.VerifiedDataset, dataset: pandas.ParquetDataset, filepath: "{data}/frames/features.parquet", versioned: true}}
frame:              {{type: nqcast.datasets.VerifiedDataset, dataset: pandas.ParquetDataset, filepath: "{data}/bars.parquet"}}
versioned_document: {{type: nqcast.datasets.VerifiedDataset, dataset: json.JSONDataset, filepath: "{data}/scores.json", versioned: true}}
document:           {{type: nqcast.datasets.VerifiedDataset, dataset: json.JSONDataset, filepath: "{data}/report.json"}}
text:               {{type: nqcast.datasets.VerifiedDataset, dataset: text.TextDataset, filepath: "{data}/report.md"}}
page:               {{type: nqcast.datasets.VerifiedDataset, dataset: text.TextDataset, filepath: "{data}/report.html", versioned: true}}
checkpoint:         {{type: nqcast.datasets.CheckpointDataset, filepath: "{data}/checkpoint"}}
"""  # noqa: E501


def _catalog_in(folder: Path, save_version: str, load_versions: dict[str, str] | None = None) -> DataCatalog:
    config = yaml.safe_load(CATALOG.format(data=folder))
    return DataCatalog.from_config(config, save_version=save_version, load_versions=load_versions)


def _artifact(name: str, seed: int) -> object:
    """A small artifact for the entry `name`; another seed gives another one."""
    rng = np.random.default_rng(seed)
    if name.endswith("frame"):
        ts = pd.date_range("2016-01-04", periods=50, freq="5min", tz="UTC", unit="ns")
        return pd.DataFrame({"ts": ts, "close": rng.normal(size=50)})
    if name.endswith("document"):
        return {"loss": float(rng.normal()), "levels": [0.05, 0.5]}
    if name == "checkpoint":
        return Checkpoint({"model.w": rng.normal(size=(4, 3)).astype(np.float32)}, Metadata(epoch=seed))
    return f"<p>{rng.normal()}</p>"


def _assert_same(left: object, right: object) -> None:
    if isinstance(left, pd.DataFrame):
        assert isinstance(right, pd.DataFrame)
        pd.testing.assert_frame_equal(left, right)
    elif isinstance(left, Checkpoint):
        assert isinstance(right, Checkpoint)
        assert left.metadata == right.metadata
        assert left.tensors.keys() == right.tensors.keys()
        for name, array in left.tensors.items():
            np.testing.assert_array_equal(array, right.tensors[name], strict=True)
    else:
        assert left == right


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data folder whose name holds a space, an accent and what a shell would take for a pattern."""
    return tmp_path / "donées [nq] 1"


@pytest.fixture
def catalog_in() -> Callable[..., DataCatalog]:
    """catalog_in(folder, save_version, load_versions=None) -> catalog."""
    return _catalog_in


@pytest.fixture
def artifact() -> Callable[[str, int], object]:
    """artifact(entry, seed) -> something to save in it."""
    return _artifact


@pytest.fixture
def assert_same() -> Callable[[object, object], None]:
    """assert_same(left, right) for frames, checkpoints and everything else."""
    return _assert_same

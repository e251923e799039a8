"""load(save(x)) equals x, and what could not come back equal is refused."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kedro.io import DatasetError, Version

from nqcast.datasets import CheckpointDataset, VerifiedDataset
from nqcast.storage.checkpoint import Checkpoint, Metadata

ENTRIES = ("versioned_frame", "versioned_document", "page", "checkpoint", "frame", "document", "text")


def verified(path: Path, inner: str | dict, version: Version | None = None) -> VerifiedDataset:
    return VerifiedDataset(filepath=str(path), dataset=inner, version=version)


QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", ENTRIES)
def test_every_entry_of_a_yaml_catalog_gives_back_what_it_was_given(
    name: str, folder: Path, catalog_in: Callable, artifact: Callable, assert_same: Callable
) -> None:
    catalog = catalog_in(folder, "2026-01-02T00.00.00.000Z")
    saved = artifact(name, 3)
    assert not catalog.exists(name)
    assert catalog[name].preview() is None
    catalog.save(name, saved)
    assert catalog.exists(name)
    assert_same(catalog.load(name), saved)
    json.dumps(catalog[name].preview(), allow_nan=False)


def test_a_frame_keeps_time_zones_units_missing_values_and_text(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "utc": pd.date_range("2016-11-06 05:00", periods=4, freq="30min", tz="UTC", unit="ns"),
            "chicago": pd.date_range("2016-11-06 00:30", periods=4, freq="30min", tz="America/Chicago"),
            "naive": pd.Series(pd.to_datetime(["2016-01-04", None, "2016-01-05", "2016-01-06"])).astype(
                "datetime64[ns]"
            ),
            "price": [1.25, np.nan, np.inf, -0.0],
            "single": np.array([1e-7, np.nan, 3, 4], dtype=np.float32),
            "volume": np.arange(4, dtype=np.int64),
            "traded": [True, False, True, True],
            "contract": pd.array(["NQH6", None, "NQM6", "NQM6"], dtype="string"),
            "reason": ["a", "b", "", "é"],
            "kind": pd.Categorical(["x", "y", "x", "x"]),
        }
    )
    dataset = verified(tmp_path / "f.parquet", "pandas.ParquetDataset")
    dataset.save(frame)
    pd.testing.assert_frame_equal(dataset.load(), frame)
    by_time = frame.set_index("chicago").sort_index(ascending=False)
    dataset.save(by_time)
    pd.testing.assert_frame_equal(dataset.load(), by_time, check_freq=False)
    empty = frame.drop(columns="kind").iloc[:0]
    dataset.save(empty)
    pd.testing.assert_frame_equal(dataset.load(), empty)


@QUICK
@given(values=st.lists(st.floats(width=64), max_size=30))
def test_every_float64_comes_back_bit_for_bit_from_parquet(values: list[float], tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": np.array(values, dtype=np.float64)})
    dataset = verified(tmp_path / "x.parquet", "pandas.ParquetDataset")
    dataset.save(frame)
    np.testing.assert_array_equal(dataset.load()["x"].to_numpy(), frame["x"].to_numpy())


def same_json(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return type(left) is type(right) and left == right


# Lone surrogates are no text in any encoding.
TEXT = st.text(alphabet=st.characters(exclude_categories=("Cs",)))
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@QUICK
@given(document=DOCUMENTS.filter(lambda value: value is not None))
def test_every_document_comes_back_equal_with_nan_and_infinity(document: object, tmp_path: Path) -> None:
    dataset = verified(tmp_path / "d.json", "json.JSONDataset")
    dataset.save(document)
    assert same_json(dataset.load(), document)
    json.loads(dataset.preview(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@pytest.mark.parametrize(
    ("document", "where"),
    [
        ({"a": [1, pd.Timestamp("2016-01-04")]}, r"\['a'\]\[1\].*isoformat"),
        ({"a": np.zeros(3)}, r"\['a'\].*tolist"),
        ({"horizons": {15: 1.0}}, r"\['horizons'\], found 15"),
        ({"s": {1, 2}}, "set"),
    ],
)
def test_what_json_would_change_is_refused_with_its_place(document: object, where: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=where):
        verified(tmp_path / "d.json", "json.JSONDataset").save(document)
    assert not list(tmp_path.iterdir())


def test_numpy_numbers_become_equal_numbers(tmp_path: Path) -> None:
    dataset = verified(tmp_path / "d.json", "json.JSONDataset")
    dataset.save({"n": np.int64(3), "x": np.float32(0.5), "ok": np.bool_(True), "pair": (1, 2)})
    assert dataset.load() == {"n": 3, "x": 0.5, "ok": True, "pair": [1, 2]}


def test_a_preview_of_a_frame_is_its_first_rows_in_plain_json(tmp_path: Path) -> None:
    dataset = verified(tmp_path / "f.parquet", "pandas.ParquetDataset")
    ts = pd.date_range("2016-01-04", periods=9, tz="UTC", unit="ns")
    dataset.save(pd.DataFrame({"ts": ts, "y": [np.nan, np.inf, *range(7)], "ok": True}))
    preview = dataset.preview(nrows=3)
    assert preview["columns"] == ["ts", "y", "ok"]
    assert [row[1:] for row in preview["data"]] == [[None, True], [None, True], [0.0, True]]
    assert preview["data"][0][0].startswith("2016-01-04 00:00:00")


def test_checkpoint_tensors_keep_type_shape_order_and_missing_values(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    tensors = {
        "model.w": rng.normal(size=(3, 4)).T,
        "model.every_other": rng.normal(size=10).astype(np.float32)[::2],
        "model.scalar": np.full((), 2.5, np.float32),
        "model.empty": np.zeros((0, 3), np.float16),
        "scale.big_endian": np.arange(3, dtype=">f8"),
        "scale.nan": np.array([np.nan, np.inf]),
        "flags": np.array([True, False]),
        "steps": np.array([2**62], dtype=np.int64),
    }
    dataset = CheckpointDataset(filepath=str(tmp_path / "checkpoint"))
    dataset.save(Checkpoint(tensors, Metadata(features=("a",), metrics={"nan": float("inf")})))
    loaded = dataset.load()
    assert loaded.metadata == Metadata(features=("a",), metrics={"nan": float("inf")})
    for name, array in tensors.items():
        np.testing.assert_array_equal(loaded.tensors[name], array)
        assert loaded.tensors[name].shape == array.shape
        assert loaded.tensors[name].dtype == array.dtype.newbyteorder("=")
    assert json.loads(dataset.preview())["metrics"]["nan"] is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"tensors": {}}, "found .*tensors"),
        ({"tensors": {"w": [1, 2]}, "metadata": {}}, "tensor 'w', found list"),
        (Checkpoint({"w": np.array([object()])}), "found object"),
        ({"tensors": {}, "metadata": {"law": 1}}, "found the unknown law"),
    ],
)
def test_what_is_no_checkpoint_is_refused(data: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=message):
        CheckpointDataset(filepath=str(tmp_path / "checkpoint")).save(data)
    assert not list(tmp_path.iterdir())


def test_two_saves_of_a_checkpoint_without_kedro_make_two_versions(tmp_path: Path, artifact: Callable) -> None:
    for seed in (1, 2):
        CheckpointDataset(filepath=str(tmp_path / "checkpoint")).save(artifact("checkpoint", seed))
    dataset = CheckpointDataset(filepath=str(tmp_path / "checkpoint"))
    assert len(dataset.list_versions()) == 2
    assert dataset.load().metadata == Metadata(epoch=2)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pkl", ".ckpt"])
def test_a_pickled_checkpoint_is_refused_unread_with_the_reason(
    suffix: str, tmp_path: Path, catalog_in: Callable
) -> None:
    offered = tmp_path / f"model{suffix}"
    offered.write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(ValueError, match=r"run code.*safetensors"):
        CheckpointDataset(filepath=str(offered))
    version = tmp_path / "checkpoint" / "2026-01-01T00.00.00.000Z" / "checkpoint"
    version.mkdir(parents=True)
    offered.rename(version / offered.name)
    catalog = catalog_in(tmp_path, "unused", {"checkpoint": "2026-01-01T00.00.00.000Z"})
    with pytest.raises(DatasetError, match=r"run code.*safetensors"):
        catalog.load("checkpoint")


def test_a_figure_comes_back_as_the_pixels_that_were_drawn(tmp_path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.image import imread

    figure = Figure(figsize=(2, 1))
    FigureCanvasAgg(figure)
    figure.patch.set_facecolor((1.0, 0.0, 0.0))
    save_args = {"dpi": 50, "bbox_inches": "tight"}
    dataset = verified(tmp_path / "fan.png", {"type": "matplotlib.MatplotlibDataset", "save_args": save_args})
    assert dataset.preview() is None
    dataset.save(figure)
    pixels = imread(tmp_path / "fan.png")
    assert pixels.shape[2] == 4
    np.testing.assert_allclose(pixels, np.broadcast_to([1.0, 0.0, 0.0, 1.0], pixels.shape))
    assert base64.b64decode(dataset.preview()) == (tmp_path / "fan.png").read_bytes()


def test_the_same_frame_gives_the_same_bytes(tmp_path: Path, artifact: Callable) -> None:
    frame = artifact("frame", 0)
    for name in ("a", "b"):
        verified(tmp_path / f"{name}.parquet", "pandas.ParquetDataset").save(frame)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


@pytest.mark.parametrize("versioned", [True, False])
def test_frames_one_by_one_give_the_file_of_all_of_them_whole_or_not_at_all(versioned: bool, tmp_path: Path) -> None:
    def dataset(save: str) -> VerifiedDataset:
        version = Version(None, save) if versioned else None
        return verified(tmp_path / "frames.parquet", "nqcast.datasets.StreamedParquetDataset", version)

    ts = pd.date_range("2016-01-04", periods=50, freq="5min", tz="UTC", unit="ns")
    whole = pd.DataFrame({"ts": ts, "horizon": pd.array(["15m", "4h"] * 25, dtype="string"), "q05": np.arange(50) / 7})
    dataset("2026-01-01").save([whole.iloc[:20], whole.iloc[20:]])
    found = dataset("2026-01-01")
    pd.testing.assert_frame_equal(found.load(), whole, check_exact=True)

    def broken() -> Iterator[pd.DataFrame]:
        yield whole.iloc[:20]
        raise ValueError("the source dried up")

    before = sorted(tmp_path.rglob("*"))
    for stream, message in ((broken(), "dried up"), ([], "at least one frame"), ([whole, ts], "among them")):
        with pytest.raises(DatasetError, match=message):
            dataset("2026-01-02").save(stream)
    with pytest.raises(DatasetError, match="the same columns"):
        dataset("2026-01-02").save([whole, whole.drop(columns="q05")])
    with pytest.raises(DatasetError, match="an iterable of them, found"):
        dataset("2026-01-02").save(3.5)
    assert sorted(tmp_path.rglob("*")) == before

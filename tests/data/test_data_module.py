"""The data module: windows, splits, moments and scale of a saved table, without Kedro, and what it refuses."""

import subprocess
import sys

import numpy as np
import pytest

from nqcast.constants import FEATURES
from nqcast.data.config import LoaderConfig, ScaleConfig, SplitConfig
from nqcast.data.data_module import NQDataModule, read_features
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import make_splits, positions

_SPLIT = SplitConfig(warmup_bars=300)


@pytest.fixture(scope="module")
def saved(features, tmp_path_factory):
    """A versioned folder whose newest complete version holds the table, an older one half of it."""
    folder = tmp_path_factory.mktemp("data") / "features.parquet"
    for version, table in (("2024-01-01T00.00.00", features.iloc[:4000]), ("2025-01-01T00.00.00", features)):
        (folder / version).mkdir(parents=True)
        table.to_parquet(folder / version / "features.parquet")
    (folder / "2026-01-01T00.00.00").mkdir()  # a failed save leaves an empty newest version
    return folder


def test_a_versioned_folder_and_its_file_give_the_windows_of_the_frame(saved, features):
    direct = NQDataModule.from_frames(features, _SPLIT, batch_size=64)
    for path in (saved, saved / "2025-01-01T00.00.00" / "features.parquet"):
        module = NQDataModule(path, 64, _SPLIT)
        module.setup()
        for mine, theirs in zip(module.train_dataloader(), direct.train_dataloader(), strict=True):
            np.testing.assert_array_equal(mine["features"], theirs["features"])
            np.testing.assert_array_equal(mine["targets"], theirs["targets"])
            np.testing.assert_array_equal(mine["scale"], theirs["scale"])


def test_the_loaders_hand_out_the_anchors_of_their_splits(features):
    splits = make_splits(features, _SPLIT)
    module = NQDataModule.from_frames(features, splits, batch_size=100)
    for name, loader in (("train", module.train_dataloader()), ("validation", module.val_dataloader()),
                         ("test", module.test_dataloader())):  # fmt: skip
        anchors = positions(splits, name)
        assert loader.n_windows == sum(len(batch["targets"]) for batch in loader) == len(anchors)
        np.testing.assert_array_equal(np.sort(loader.order()), anchors)


def test_the_moments_are_those_of_traded_rows_up_to_the_last_train_anchor(features):
    module = NQDataModule.from_frames(features, _SPLIT)
    train = positions(module.splits, "train")
    rows = features.iloc[train[0] - 287 : train[-1] + 1].query("traded")
    np.testing.assert_allclose(module.feature_mean_F, rows[list(FEATURES)].mean())
    np.testing.assert_allclose(module.feature_std_F, rows[list(FEATURES)].std(ddof=0))


def test_a_fitted_scale_is_taken_as_it_is(features):
    splits = make_splits(features, _SPLIT)
    scale = make_scale(ScaleConfig(kind="constant")).fit(features, positions(splits, "train"))
    module = NQDataModule.from_frames(features, splits, scale)
    assert module.scale is scale
    expected = scale.transform(features)[: module.batch_size].astype(np.float32)
    np.testing.assert_array_equal(next(iter(module.val_loader))["scale"].numpy(), expected)


def test_rolling_quantiles_reach_the_batches_row_by_row(features):
    config = ScaleConfig(rolling_quantiles=True, rolling_sessions=5)
    module = NQDataModule.from_frames(features, _SPLIT, config, batch_size=32)
    anchors = positions(module.splits, "test")[:32]
    expected = module.scale.rolling_quantiles(features, module.scale_NH, anchors)
    np.testing.assert_allclose(next(iter(module.test_loader))["unit_quantiles"], expected, rtol=1e-6)


def test_another_seed_gives_another_order(features):
    first, second = (NQDataModule.from_frames(features, _SPLIT, loader=LoaderConfig(seed=s)) for s in (0, 1))
    assert not np.array_equal(first.train_loader.order(), second.train_loader.order())


def test_missing_files_other_files_and_empty_folders_are_named(tmp_path, features):
    with pytest.raises(ValueError, match="found none at"):
        NQDataModule(tmp_path / "nowhere.parquet").setup()
    (tmp_path / "text.parquet").write_text("ts,close\n")
    with pytest.raises(ValueError, match="which is none"):
        read_features(tmp_path / "text.parquet")
    (tmp_path / "features.parquet").mkdir()
    with pytest.raises(ValueError, match="found none at"):
        read_features(tmp_path / "features.parquet")
    with pytest.raises(ValueError, match="expected a data_path of features, found none"):
        NQDataModule().setup()
    with pytest.raises(ValueError, match="macd"):
        NQDataModule.from_frames(features.drop(columns="macd"), _SPLIT)


def test_the_configuration_is_imported_without_torch():
    code = "import sys, nqcast.data, nqcast.data.config; print(sorted({'torch', 'pandas', 'scipy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_every_exported_name_is_there():
    import nqcast.data

    for name in nqcast.data.__all__:
        assert getattr(nqcast.data, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute"):
        _ = nqcast.data.nothing

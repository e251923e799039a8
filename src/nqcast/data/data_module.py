"""The data module: from saved features to train, validation and test loaders, without Kedro. It writes nothing."""

from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa

from nqcast.constants import CONTEXT, FEATURES, LEVELS
from nqcast.data.config import LoaderConfig, ScaleConfig, SplitConfig
from nqcast.data.features import check_features
from nqcast.data.own_features import feature_names
from nqcast.data.scale import Scale
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import check_no_overlap, make_splits, positions
from nqcast.data.targets import realized_volatility
from nqcast.data.windows import WindowLoader, WindowTable
from nqcast.spacing import Spacing
from nqcast.storage.versions import version_paths


class NQDataModule:
    """Features, splits, scale and loaders of one data set.

    Args:
        data_path: a parquet file of features, or a versioned folder (`features.parquet/<version>/features.parquet`),
            whose newest version is taken.
        batch_size: windows per batch.
        splits: a frame of anchors, a SplitConfig, or None: 70/15/15 by session with purge and embargo.
        scale: a fitted scale, a ScaleConfig, or None: SeasonalHAR with its defaults.
        loader: seed, windows per epoch and device.

    After `setup()`: features, splits, scale, scale_NH, unit_quantiles_HQ, n_features, feature_mean_F and
    feature_std_F (over the traded rows from the first train window to the last train anchor), train_loader, val_loader,
    test_loader.
    """

    n_features = len(FEATURES)

    def __init__(
        self,
        data_path: str | Path | None = None,
        batch_size: int = 128,
        splits: pd.DataFrame | SplitConfig | None = None,
        scale: Scale | ScaleConfig | None = None,
        loader: LoaderConfig | None = None,
    ) -> None:
        self.data_path = None if data_path is None else Path(data_path)
        self.batch_size = batch_size
        self.loader_config = loader or LoaderConfig()
        self._given_splits, self._given_scale = splits, scale
        self._frame: pd.DataFrame | None = None

    @classmethod
    def from_frames(
        cls,
        features: pd.DataFrame,
        splits: pd.DataFrame | SplitConfig | None = None,
        scale: Scale | ScaleConfig | None = None,
        batch_size: int = 128,
        loader: LoaderConfig | None = None,
    ) -> Self:
        """The module of a feature table at hand, set up."""
        module = cls(None, batch_size, splits, scale, loader)
        module._frame = features
        return module.setup()

    def setup(self) -> Self:
        """Read, split, scale and build the loaders; a second call does nothing.

        Raises:
            ValueError: no such file, not a feature table, or too few rows to split.
        """
        if hasattr(self, "train_loader"):
            return self
        frame = read_features(self.data_path) if self._frame is None and self.data_path is not None else self._frame
        if frame is None:
            raise ValueError("expected a data_path of features, found none: give one, or use from_frames")
        self.features = check_features(frame)
        self.n_features = len(feature_names(self.features))
        self.splits = self._split()
        self.scale = self._fit_scale()
        self.scale_NH, self.volatility_NK = self.scale.describe(self.features)
        self.unit_quantiles_HQ = self.scale.unit_quantiles_HQ
        self.feature_mean_F, self.feature_std_F = self._moments()
        self._build_loaders()
        return self

    def train_dataloader(self) -> WindowLoader:
        """Loader of the train windows, in an order drawn from (seed, epoch)."""
        return self.setup().train_loader

    def val_dataloader(self) -> WindowLoader:
        """Loader of the validation windows, in time order."""
        return self.setup().val_loader

    def test_dataloader(self) -> WindowLoader:
        """Loader of the test windows, in time order."""
        return self.setup().test_loader

    @property
    def context(self) -> int:
        """Rows of a window."""
        return self.loader_config.context or Spacing.of(self.features["ts"]).rows(CONTEXT)

    def _split(self) -> pd.DataFrame:
        if isinstance(self._given_splits, pd.DataFrame):
            splits = self._given_splits
        else:
            splits = make_splits(self.features, self._given_splits)
        check_no_overlap(self.features, splits, self.context)
        return splits

    def _fit_scale(self) -> Scale:
        if isinstance(self._given_scale, Scale):
            return self._given_scale
        return make_scale(self._given_scale, LEVELS).fit(self.features, positions(self.splits, "train"))

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        train = positions(self.splits, "train")
        rows = self.features.iloc[max(int(train[0]) - self.context + 1, 0) : int(train[-1]) + 1]
        values = rows.loc[rows["traded"], list(feature_names(rows))].to_numpy()
        return values.mean(axis=0), values.std(axis=0)

    def _unit_quantiles(self) -> np.ndarray:
        if not self.scale.config.rolling_quantiles:
            return self.unit_quantiles_HQ
        return self.scale.rolling_quantiles(self.features, self.scale_NH, np.arange(len(self.features)))

    def _realized(self, train: np.ndarray) -> np.ndarray:
        """Realized volatility over each horizon (N, H), in scales, its mean over the train anchors 1."""
        ratio_NH = realized_volatility(self.features) / self.scale_NH
        return ratio_NH / np.nanmean(ratio_NH[train], axis=0)

    def _build_loaders(self) -> None:
        config = self.loader_config
        anchors = {name: positions(self.splits, name) for name in ("train", "validation", "test")}
        self.table = WindowTable(
            *(self.features, self.scale_NH, config.device, self.context, self._unit_quantiles()),
            volatility_NK=self.volatility_NK if config.volatility else None,
            realized_NH=self._realized(anchors["train"]),
        )
        self.train_loader = WindowLoader(
            self.table, anchors["train"], self.batch_size, config.seed, config.windows_per_epoch
        )
        self.val_loader = WindowLoader(self.table, anchors["validation"], self.batch_size)
        self.test_loader = WindowLoader(self.table, anchors["test"], self.batch_size)


def read_features(path: Path) -> pd.DataFrame:
    """Feature table of a parquet file, of one version, or of the newest version in a versioned folder.

    Raises:
        ValueError: no such path, no version in it, or not a parquet file.
    """
    own = path / path.parent.name  # one version in a versioned folder
    newest = (found for found in version_paths(path) if isinstance(found, Path))
    file = own if own.is_file() else next(newest, path)
    if not file.is_file():
        raise ValueError(
            f"expected features in a parquet file, or a folder that holds <version>/{path.name}, found none at {path}: "
            "run the ingest and features pipelines, or correct the path"
        )
    try:
        return pd.read_parquet(file)
    except pa.ArrowInvalid as error:
        raise ValueError(f"expected a parquet file, found {file}, which is none ({error}): build it again") from error

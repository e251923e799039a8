"""Where raw bars come from: the simulated market, its true quantiles, or the user's files. Read-only entries."""

from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview, TablePreview

from nqcast.datasets.previews import first_rows, json_preview, table_preview
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.vendor import KNOWN, is_bars, read_bars
from nqcast.storage.verified import sha256_of


class _ReadOnlyDataset(AbstractDataset):
    def save(self, data: Any) -> None:
        raise DatasetError(
            f"expected an output, found the source {type(self).__name__}, which cannot be written: take another"
        )


class _SimulatedDataset(_ReadOnlyDataset):
    def __init__(self, *, config: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            config: fields of `nqcast.market.simulation.config.SimulationConfig` that differ from its defaults.
            metadata: anything for plugins; ignored here.
        """
        self._config, self.metadata = dict(config or {}), metadata

    def preview(self) -> JSONPreview:
        """The settings of the simulation, for kedro-viz: drawing the bars would take seconds."""
        return json_preview(self._config)

    def content(self) -> list[Any]:
        """What names the bars: the market's settings, from which they are drawn."""
        return [type(self).__name__, self._config]

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"config": self._config}


class SimulatedMarketDataset(_SimulatedDataset):
    """Raw 1-minute bars of the simulated NQ market, drawn anew from the seed at every load."""

    def load(self) -> pd.DataFrame:
        from nqcast.market.simulation.simulator import simulate

        return simulate(SimulationConfig(**self._config))


class TrueQuantilesDataset(_SimulatedDataset):
    """The simulated market's true quantiles: load() gives an object with `quantiles_at(ts, levels)`."""

    def load(self) -> Any:
        from nqcast.market.simulation.true_quantiles import TrueQuantiles

        return TrueQuantiles(SimulationConfig(**self._config))


class _UserDataset(_ReadOnlyDataset):
    wanted, parameter = "a file of bars", "bars=FILE"
    is_there = staticmethod(Path.exists)

    def __init__(self, *, source: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            source: path of the user's file or folder; `~` is expanded and a relative one counts from the current
                folder, so the key is `source`: Kedro would make `filepath` absolute against the project. Whether it is
                there is asked at load only; a catalog without it can be listed and drawn.
            metadata: anything for plugins; ignored here.
        """
        self._source, self.metadata = str(source) if source else None, metadata

    def _path(self) -> Path | None:
        return Path(self._source).expanduser().absolute() if self._source else None

    def _existing_path(self) -> Path:
        path = self._path()
        if path is None or not self.is_there(path):
            place = "none" if path is None else f"{'none' if path.exists() else 'nothing'} at {path}"
            raise DatasetError(
                f"expected {self.wanted}, found {place}: give one with --params {self.parameter}; a relative path "
                f"counts from the current folder, {Path.cwd()}"
            )
        return path

    def content(self) -> list[list[str]] | None:
        """Name and SHA-256 of every file below the source; None where there is none on this disk."""
        path = self._path()
        if path is None or not path.exists():
            return None
        files = sorted(one for one in path.rglob("*") if one.is_file()) if path.is_dir() else [path]
        return [[str(one.relative_to(path.parent)), sha256_of(one)] for one in files]

    def _exists(self) -> bool:
        path = self._path()
        return path is not None and self.is_there(path)

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._source}


class VendorBarsDataset(_UserDataset):
    """The user's bars: a Databento DBN, parquet or CSV file, or a folder of them."""

    def load(self) -> pd.DataFrame:
        path = self._existing_path()
        bars = read_bars(path)
        bars.attrs["source"] = path.name
        return bars

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows of a parquet or CSV file for kedro-viz; None for other kinds and missing files."""
        if not self._exists():
            return None
        path = self._existing_path()
        if path.suffix == ".parquet":
            return table_preview(first_rows(path, nrows))
        return table_preview(pd.read_csv(path, nrows=nrows)) if path.suffix in {".csv", ".gz"} else None


class SymbolFilesDataset(_UserDataset):
    """load() maps each symbol to the path of its file: `NQ.parquet` and `ES.csv.gz` are NQ and ES.

    Whoever builds a symbol opens its file, in a process of its own.
    """

    wanted, parameter = "a folder with one file of bars per symbol", "bars=FOLDER"
    is_there = staticmethod(Path.is_dir)

    def load(self) -> dict[str, Path]:
        folder = self._existing_path()
        files: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.name.startswith(".") or not is_bars(path):
                continue
            symbol = path.name.partition(".")[0]
            if symbol in files:
                raise DatasetError(
                    f"expected one file per symbol, found {files[symbol].name} and {path.name} in {folder}: "
                    "join them, or move one away"
                )
            files[symbol] = path
        if not files:
            raise DatasetError(
                f"expected files of bars ({KNOWN}) in {folder}, found none: name the folder that holds them with "
                "--params bars=FOLDER"
            )
        return files

    def preview(self) -> JSONPreview:
        """Symbols and their files for kedro-viz; None where there is no folder."""
        return json_preview({symbol: path.name for symbol, path in self.load().items()}) if self._exists() else None


def _read_csv(path: Path) -> pd.DataFrame:
    """A table of text between commas, or between semicolons with decimal points or commas, as spreadsheets write it."""
    names = pd.read_csv(path, nrows=0).columns
    if len(names) > 1 or ";" not in names[0]:
        return pd.read_csv(path)
    frame = pd.read_csv(path, sep=";")
    has_commas = frame.filter(regex=r"^q\d").select_dtypes(exclude="number").size > 0
    return pd.read_csv(path, sep=";", decimal=",") if has_commas else frame


class ForecastFileDataset(_UserDataset):
    """Forecasts of anyone's making: a parquet or CSV file."""

    wanted, parameter = "a parquet or CSV file of forecasts", "predictions=FILE"

    @staticmethod
    def is_there(path: Path) -> bool:
        """Whether a file of a known ending lies there."""
        return path.is_file() and path.suffix in _READERS

    def load(self) -> pd.DataFrame:
        path = self._existing_path()
        try:
            return _READERS[path.suffix](path)
        except (ValueError, OSError) as error:
            raise DatasetError(
                f"expected a table of forecasts in {path}, found none ({error}): write it anew"
            ) from error


_READERS: dict[str, Any] = {".parquet": pd.read_parquet, ".csv": _read_csv, ".gz": _read_csv}

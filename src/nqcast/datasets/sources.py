"""Where raw bars come from: the embedded simulated market, its true law, or the user's file. Read-only entries."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import AbstractDataset, DatasetError
from kedro_datasets._typing import JSONPreview, TablePreview

from nqcast.constants import SIMULATED


class _ReadOnlyDataset(AbstractDataset):
    def save(self, data: Any) -> None:
        raise DatasetError(f"{type(self).__name__} is a source and cannot be written: give the node another output")


class SimulatedMarketDataset(_ReadOnlyDataset):
    """Raw 1-minute bars of the simulated NQ market, drawn anew from the seed at every load."""

    def __init__(self, *, config: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            config: fields of `nqcast.market.simulation.config.SimulationConfig` that differ from its defaults.
            metadata: anything for plugins; ignored here.
        """
        self._config = dict(config or {})
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        from nqcast.market.simulation.config import SimulationConfig
        from nqcast.market.simulation.simulator import simulate

        config = SimulationConfig(**self._config)
        bars = simulate(config)
        bars.attrs["source"] = f"{SIMULATED} (seed {config.seed})"
        return bars

    def preview(self) -> JSONPreview:
        """The settings of the simulation, for kedro-viz: drawing the bars would take seconds."""
        return JSONPreview(json.dumps(self._config, default=str))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"config": self._config}


class TrueQuantilesDataset(_ReadOnlyDataset):
    """The simulated market's law: load() gives an object with `quantiles_at(ts, levels)`."""

    def __init__(self, *, config: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            config: the same fields as the SimulatedMarketDataset's.
            metadata: anything for plugins; ignored here.
        """
        self._config = dict(config or {})
        self.metadata = metadata

    def load(self) -> Any:
        from nqcast.market.simulation.config import SimulationConfig
        from nqcast.market.simulation.true_quantiles import TrueLaw

        return TrueLaw(SimulationConfig(**self._config))

    def preview(self) -> JSONPreview:
        """The settings of the simulation, for kedro-viz."""
        return JSONPreview(json.dumps(self._config, default=str))

    def _exists(self) -> bool:
        return True

    def _describe(self) -> dict[str, Any]:
        return {"config": self._config}


class VendorBarsDataset(_ReadOnlyDataset):
    """The user's bars: a Databento DBN, parquet or CSV file, or a folder of them.

    A relative path counts from the current folder, so the key is `source`: Kedro would make `filepath` absolute
    against the project. Whether it is there is asked at load only; a catalog without the file can be listed and drawn.
    """

    def __init__(self, *, source: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            source: path of the file or folder; `~` is expanded. None or empty: an error at load.
            metadata: anything for plugins; ignored here.
        """
        self._source = str(source) if source else None
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        path = self._existing_path()
        from nqcast.market.vendor import read_bars

        bars = read_bars(path)
        bars.attrs["source"] = path.name
        return bars

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows of a parquet or CSV file for kedro-viz; None for other kinds and missing files."""
        if not self._exists():
            return None
        from nqcast.datasets.parquet import first_rows, table_preview

        path = self._existing_path()
        if path.suffix == ".parquet":
            return table_preview(first_rows(path, nrows))
        return table_preview(pd.read_csv(path, nrows=nrows)) if path.suffix in {".csv", ".gz"} else None

    def _existing_path(self) -> Path:
        if self._source is None:
            raise DatasetError("expected a file of bars, found none: give one with --params bars=FILE")
        path = Path(self._source).expanduser().absolute()
        if not path.exists():
            raise DatasetError(
                f"expected a file of bars, found nothing at {path}: give one with --params bars=FILE; "
                f"a relative path counts from the current folder, {Path.cwd()}"
            )
        return path

    def _exists(self) -> bool:
        return self._source is not None and Path(self._source).expanduser().exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._source}


class ForecastFileDataset(_ReadOnlyDataset):
    """Forecasts of anyone's making: a parquet or CSV file. A relative path counts from the current folder."""

    def __init__(self, *, source: str | None = None, metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            source: path of the file; `~` is expanded. None or empty: an error at load.
            metadata: anything for plugins; ignored here.
        """
        self._source = str(source) if source else None
        self.metadata = metadata

    def load(self) -> pd.DataFrame:
        if self._source is None:
            raise DatasetError("expected a file of forecasts, found none: give one with --params predictions=FILE")
        path = Path(self._source).expanduser().absolute()
        readers: dict[str, Any] = {".parquet": pd.read_parquet, ".csv": pd.read_csv, ".gz": pd.read_csv}
        if not path.is_file() or path.suffix not in readers:
            raise DatasetError(
                f"expected a parquet or CSV file of forecasts, found {'nothing' if not path.exists() else 'none'} at "
                f"{path}: give one with --params predictions=FILE; a relative path counts from {Path.cwd()}"
            )
        try:
            return readers[path.suffix](path)
        except (ValueError, OSError) as error:
            raise DatasetError(
                f"expected a table of forecasts in {path}, found none ({error}): write it anew"
            ) from error

    def _exists(self) -> bool:
        return self._source is not None and Path(self._source).expanduser().is_file()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": self._source}

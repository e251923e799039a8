"""Kedro datasets of our own, for the catalog as `type: nqcast.datasets.<Name>`.

Names are imported when first asked for, so that reading a catalog loads neither pyarrow nor matplotlib.
"""

from importlib import import_module
from typing import Any

_MODULE_OF = {
    "VerifiedParquetDataset": "parquet",
    "VerifiedJSONDataset": "documents",
    "VerifiedTextDataset": "documents",
    "VerifiedHTMLDataset": "documents",
    "VerifiedFigureDataset": "figure",
    "CheckpointDataset": "checkpoint",
    "SimulatedMarketDataset": "sources",
    "TrueQuantilesDataset": "sources",
    "VendorBarsDataset": "sources",
    "RunDirectoryDataset": "run_directory",
    "AppendOnlyLogDataset": "append_only",
    "VerifiedPartitionsDataset": "partitions",
    "SymbolFilesDataset": "symbols",
}

__all__ = list(_MODULE_OF)


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)

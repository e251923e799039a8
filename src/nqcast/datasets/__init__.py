"""Kedro datasets of our own, for the catalog as `type: nqcast.datasets.<Name>`.

Names are imported when first asked for, so that reading a catalog loads neither pyarrow nor matplotlib.
"""

from nqcast.lazy import lazily

_HOME = {
    "VerifiedDataset": "verified",
    "StreamedParquetDataset": "parquet",
    "CheckpointDataset": "checkpoint",
    "SimulatedMarketDataset": "sources",
    "TrueQuantilesDataset": "sources",
    "VendorBarsDataset": "sources",
    "ForecastFileDataset": "sources",
    "SymbolFilesDataset": "sources",
    "RunDirectoryDataset": "growing",
    "AppendOnlyLogDataset": "growing",
    "VerifiedPartitionsDataset": "partitions",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)

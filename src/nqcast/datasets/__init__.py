"""Kedro datasets of our own, for the catalog as `type: nqcast.datasets.<Name>`.

Names are imported when first asked for, so that reading a catalog loads neither pyarrow nor matplotlib.
"""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    verified="VerifiedDataset CheckpointDataset",
    parquet="StreamedParquetDataset",
    sources="SimulatedMarketDataset TrueQuantilesDataset VendorBarsDataset ForecastFileDataset SymbolFilesDataset",
    placed="RunDirectoryDataset AppendOnlyLogDataset",
    partitions="VerifiedPartitionsDataset",
)

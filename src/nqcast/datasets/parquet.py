"""Frames that come one by one, as the row groups of one parquet file."""

import warnings
from collections.abc import Iterable
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from nqcast.datasets.placed import PlacedDataset


class StreamedParquetDataset(PlacedDataset):
    """save() takes a DataFrame or an iterable of frames with equal columns, of which one at a time is held.

    Each frame becomes a row group; indices are not kept. load() gives one DataFrame. For use inside a VerifiedDataset.
    """

    def __init__(self, *, filepath: str, compression: str = "zstd", metadata: dict[str, Any] | None = None) -> None:
        """
        Args:
            filepath: local path.
            compression: a parquet codec: zstd, snappy, gzip or none.
            metadata: anything for plugins; ignored here.
        """
        super().__init__(filepath=filepath, metadata=metadata)
        self._compression = compression

    def load(self) -> pd.DataFrame:
        return pd.read_parquet(str(self._filepath), engine="pyarrow")

    def save(self, data: pd.DataFrame | Iterable[pd.DataFrame]) -> None:
        if isinstance(data, str | bytes | dict) or not isinstance(data, Iterable):
            raise DatasetError(
                f"expected a DataFrame or an iterable of them, found {type(data).__name__}: return one from the node"
            )
        self._write_row_groups([data] if isinstance(data, pd.DataFrame) else data)

    def _write_row_groups(self, frames: Iterable[pd.DataFrame]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        writer = None
        try:
            for frame in frames:
                if not isinstance(frame, pd.DataFrame):
                    raise DatasetError(f"expected frames, found {type(frame).__name__} among them: stream DataFrames")
                with warnings.catch_warnings():  # pandas does the same in to_parquet: pyarrow still reads Series.values
                    warnings.filterwarnings("ignore", "Series.values", DeprecationWarning)
                    table = pa.Table.from_pandas(frame, preserve_index=False)
                writer = writer or pq.ParquetWriter(str(self._filepath), table.schema, compression=self._compression)
                if not table.schema.equals(writer.schema):
                    raise DatasetError(
                        f"expected frames of one kind, found {writer.schema.names} with the types "
                        f"{writer.schema.types} and then {table.schema.names} with {table.schema.types}: give every "
                        "frame the same columns"
                    )
                writer.write_table(table, row_group_size=max(len(table), 1))
            if writer is None:
                raise DatasetError("expected at least one frame, found an empty stream: forecast at least one anchor")
        finally:
            if writer is not None:
                writer.close()

    def _describe(self) -> dict[str, Any]:
        return {**super()._describe(), "compression": self._compression}

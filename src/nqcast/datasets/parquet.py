"""Data frames as verified parquet."""

import io
import math
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pandas as pd
from kedro.io import DatasetError, Version
from kedro_datasets._typing import TablePreview

from nqcast.datasets.base import VerifiedFileDataset

Compression = Literal["zstd", "snappy", "gzip"]


class VerifiedParquetDataset(VerifiedFileDataset[pd.DataFrame]):
    """A pandas DataFrame as parquet; dtypes, time zones, index and missing values come back as they were."""

    def __init__(
        self,
        *,
        filepath: str,
        version: Version | None = None,
        compression: Compression | None = "zstd",
        metadata: dict[str, Any] | None = None,
    ) -> None:
        """
        Args:
            filepath: local path; with versions, the folder that holds them.
            version: set by Kedro for `versioned: true`.
            compression: a parquet codec: zstd, snappy or gzip; None leaves the pages as they are.
            metadata: anything for plugins; ignored here.
        """
        super().__init__(filepath=filepath, version=version, metadata=metadata)
        self._compression = compression

    def _encode(self, data: pd.DataFrame) -> bytes:
        if not isinstance(data, pd.DataFrame):
            raise DatasetError(
                f"expected a pandas DataFrame, found {type(data).__name__}: return a frame from the node"
            )
        buffer = io.BytesIO()
        data.to_parquet(buffer, engine="pyarrow", compression=self._compression)
        return buffer.getvalue()

    def _decode(self, content: bytes) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(content), engine="pyarrow")

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows as text for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        if content is None:
            return None
        return table_preview(first_rows(io.BytesIO(content), nrows))


def first_rows(source: Path | BinaryIO, nrows: int) -> pd.DataFrame:
    """The first `nrows` rows of a parquet file, without reading the rest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source)
    batch = next(file.iter_batches(batch_size=nrows), None)
    head = file.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
    return head.to_pandas().head(nrows)


def table_preview(frame: pd.DataFrame) -> TablePreview:
    """`frame` in pandas' split format with cells that JSON can hold: times as text, NaN as null."""
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return TablePreview(
        {
            "index": [str(label) for label in frame.index],
            "columns": [str(name) for name in frame.columns],
            "data": cells,
        }
    )


def _cell(value: Any) -> Any:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return None if value is None or value is pd.NaT or value is pd.NA else str(value)

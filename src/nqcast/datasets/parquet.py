"""Data frames as verified parquet."""

import io
import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO, Literal

import pandas as pd
from kedro.io import DatasetError, Version
from kedro_datasets._typing import TablePreview

from nqcast.datasets.base import VerifiedFileDataset
from nqcast.storage.verified import write_folder

Compression = Literal["zstd", "snappy", "gzip"]


class VerifiedParquetDataset(VerifiedFileDataset[pd.DataFrame]):
    """A pandas DataFrame as parquet; dtypes, time zones, index and missing values come back as they were.

    save() also takes an iterable of frames with the same columns: each becomes a row group, and with versions no more
    than one of them is held at a time. Their indices are not kept.
    """

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

    def _write(self, path: Path, data: pd.DataFrame) -> None:
        if self._version and not isinstance(data, pd.DataFrame):
            row_groups = _checked_frames(data)
            content = {path.name: lambda file: write_row_groups(file, row_groups, self._compression)}
            write_folder(path.parent, content, self._manifest(path).name)
        else:
            super()._write(path, data)

    def _encode(self, data: pd.DataFrame) -> bytes:
        buffer = io.BytesIO()
        if isinstance(data, pd.DataFrame):
            data.to_parquet(buffer, engine="pyarrow", compression=self._compression)
        else:
            write_row_groups(buffer, _checked_frames(data), self._compression)
        return buffer.getvalue()

    def _decode(self, content: bytes) -> pd.DataFrame:
        return pd.read_parquet(io.BytesIO(content), engine="pyarrow")

    def preview(self, nrows: int = 10) -> TablePreview:
        """The first rows as text for kedro-viz, or None while nothing has been saved."""
        content = self._preview_bytes()
        if content is None:
            return None
        return table_preview(first_rows(io.BytesIO(content), nrows))


def _checked_frames(data: Any) -> Iterable[pd.DataFrame]:
    if isinstance(data, str | bytes | dict) or not isinstance(data, Iterable):
        raise DatasetError(
            f"expected a pandas DataFrame or an iterable of them, found {type(data).__name__}: return one from the node"
        )
    return data


def write_row_groups(file: BinaryIO, frames: Iterable[pd.DataFrame], compression: Compression | None) -> None:
    """Write frames of equal columns as the row groups of one parquet file; DatasetError when there is none."""
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
            writer = writer or pq.ParquetWriter(file, table.schema, compression=compression or "none")
            if not table.schema.equals(writer.schema):
                raise DatasetError(f"expected frames of one kind, found {writer.schema.names} with the types "
                                   f"{writer.schema.types} and then {table.schema.names} with {table.schema.types}: "
                                   "give every frame the same columns")  # fmt: skip
            writer.write_table(table, row_group_size=max(len(table), 1))
        if writer is None:
            raise DatasetError("expected at least one frame, found an empty stream: forecast at least one anchor")
    finally:
        if writer is not None:
            writer.close()


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

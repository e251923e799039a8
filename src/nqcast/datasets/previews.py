"""What kedro-viz shows of an artifact, by the ending of its file's name: plain JSON, never NaN."""

import base64
import html
import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from kedro_datasets._typing import HTMLPreview, ImagePreview, JSONPreview, TablePreview

from nqcast.storage.json_values import finite
from nqcast.storage.verified import manifest_of, read_verified

if TYPE_CHECKING:
    import pandas as pd


def preview_of(suffix: str, path: Callable[[], Path | None]) -> Callable[..., Any]:
    """A function that previews the verified file at `path()`, or gives None; its annotation is what kedro-viz asks."""
    kind, show = _KINDS.get(suffix, _KINDS[".txt"])

    def preview(nrows: int = 10) -> Any:
        found = path()
        if found is None:
            return None
        content = read_verified(found, manifest_of(found))
        return show(io.BytesIO(content), nrows) if kind is TablePreview else show(content)

    preview.__annotations__["return"] = kind
    return preview


def json_preview(value: Any) -> JSONPreview:
    """JSON values for kedro-viz, without NaN."""
    return JSONPreview(json.dumps(finite(value), default=str))


def first_rows(source: Path | BinaryIO, nrows: int) -> "pd.DataFrame":
    """The first `nrows` rows of a parquet file, without reading the rest."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(source)
    batch = next(file.iter_batches(batch_size=nrows), None)
    head = file.schema_arrow.empty_table() if batch is None else pa.Table.from_batches([batch])
    return head.to_pandas().head(nrows)


def table_preview(frame: "pd.DataFrame") -> TablePreview:
    """`frame` in pandas' split format with cells that JSON can hold: times as text, NaN as null."""
    cells = [[_cell(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    index, columns = [str(label) for label in frame.index], [str(name) for name in frame.columns]
    return TablePreview({"index": index, "columns": columns, "data": cells})


def _cell(value: Any) -> Any:
    if isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    text = str(value)
    return None if text in ("None", "NaT", "<NA>") else text


_KINDS: dict[str, tuple[type, Callable[..., Any]]] = {
    ".parquet": (TablePreview, lambda source, nrows: table_preview(first_rows(source, nrows))),
    ".json": (JSONPreview, lambda content: json_preview(json.loads(content))),
    ".png": (ImagePreview, lambda content: ImagePreview(base64.b64encode(content).decode())),
    ".html": (HTMLPreview, lambda content: HTMLPreview(content.decode())),
    ".txt": (HTMLPreview, lambda content: HTMLPreview(f"<pre>{html.escape(content.decode(errors='replace'))}</pre>")),
}

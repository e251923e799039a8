"""How large a file of bars becomes when it is unpacked, asked before it is: a megabyte can hold tens of gigabytes."""

from __future__ import annotations

from pathlib import Path
from typing import IO

MOST_BYTES = 2 << 30
"""Size of text, or of a parquet file's pages, once unpacked: five times what fifteen years of one-minute bars take."""
MOST_ROWS = 50_000_000
MOST_CHARACTERS = 1_000
"""The longest cell: the name of a contract or a stamp."""


class TooLargeError(ValueError):
    """A file of bars that becomes larger than bars do."""


def require_bounded(file: Path, unpacked: IO[str] | IO[bytes]) -> None:
    """Read `unpacked`, what a packed file holds, to its end, and close it; TooLargeError where that does not come."""
    read = 0
    with unpacked:
        while part := unpacked.read(1 << 20):
            read += len(part)
            if read > MOST_BYTES:
                raise _too_large(file, f"more than {MOST_BYTES / 2**30:g} GiB")


def require_bounded_parquet(file: Path) -> None:
    """TooLargeError where a parquet file holds more rows, more bytes or longer cells than bars do.

    A text column is read as its dictionary: one long value that a million rows repeat is seen once.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(file)
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    if metadata.num_rows > MOST_ROWS:
        raise _too_large(file, f"{metadata.num_rows:,} rows")
    if (size := sum(group.total_byte_size for group in groups)) > MOST_BYTES:
        raise _too_large(file, f"pages of {size / 2**30:.1f} GiB")
    schema = pq.read_schema(file)
    kinds = pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_dictionary
    names = [one.name for one in schema if any(kind(one.type) for kind in kinds)]
    table = pq.ParquetFile(file, read_dictionary=names)
    for batch in table.iter_batches(columns=names) if names else ():
        for column in batch.columns:
            words = column.dictionary if pa.types.is_dictionary(column.type) else column
            longest = max((len(str(word)) for word in words.to_pylist()), default=0)
            if longest > MOST_CHARACTERS:
                raise _too_large(file, f"a cell of {longest:,} characters")


def _too_large(file: Path, found: str) -> TooLargeError:
    return TooLargeError(
        f"expected a file of bars (at most {MOST_ROWS:,} rows, {MOST_BYTES / 2**30:g} GiB unpacked, cells of "
        f"{MOST_CHARACTERS:,} characters), found {found} in {file}: unpack it yourself, or cut it into several"
    )

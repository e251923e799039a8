"""Text files of bars: how they are packed, encoded and separated, where their header ends, how numbers are written."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from nqcast.market.schema import PRICES
from nqcast.market.tables import COLUMNS, DATE, HEADERLESS, NOTHING, TIME
from nqcast.market.unpacked_size import require_bounded
from nqcast.market.written_stamps import readable

_DAMAGED = (
    *(pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeError, OSError, EOFError, csv.Error),
    *(zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError),  # RuntimeError of a zip with a password
)
_LOOK = 40  # lines
_KNOWN_PRICES = {spelling for price in PRICES for spelling in COLUMNS[price]}
_TEXT = {*DATE, *TIME, *COLUMNS["contract"], *COLUMNS["ts"], ""}  # columns that are text however they look: 0930


@dataclass(frozen=True)
class Layout:
    """Where the bars of a text file are: separator, lines before the first bar, names of the columns."""

    separator: str
    skip: int
    names: list[str]
    tickers: Sequence[str] = ()
    """What stands below the names, where each column has its ticker."""
    note: str = ""


def read_text(file: Path, content: bytes | None = None) -> pd.DataFrame:
    """The rows of a text file under its own column names; numbers that are written otherwise than 4781.25 stay text.

    content: what is to be read of a file that still grows.

    Raises ValueError for a file that is no text, several files in one, or a first line that cannot be understood.
    """
    try:
        if file.suffix.lower() in _OPEN:
            require_bounded(file, _opened(file))
        encoding = _encoding(file, content)
        with io.TextIOWrapper(_opened(file, content), encoding, newline="") as handle:
            layout = _layout([line for _, line in zip(range(_LOOK), handle, strict=False)], file)
        with io.TextIOWrapper(_opened(file, content), encoding, newline="") as handle:
            frame = pd.read_csv(
                handle,
                sep=layout.separator.replace(" ", r"\s+"),
                skiprows=layout.skip,
                header=None,
                names=list(range(len(layout.names))),
                index_col=False,
                dtype=cast(Any, {k: "str" for k, name in enumerate(layout.names) if plain(name) in _TEXT}),
                skipinitialspace=True,
                low_memory=False,
            )
    except _DAMAGED as error:
        raise _no_table(file, " ".join(str(error).split())) from error
    tickers = [list(layout.tickers)] if layout.tickers else []
    frame.columns = pd.MultiIndex.from_arrays([layout.names, *tickers]) if tickers else pd.Index(layout.names)
    frame.attrs |= {"first_line": layout.skip + 1, "notes": [layout.note] if layout.note else []}
    return frame


def _opened(file: Path, content: bytes | None = None) -> IO[bytes]:
    """The bytes of a file, unpacked; the caller closes it."""
    if content is not None:
        return io.BytesIO(content)
    return _OPEN.get(file.suffix.lower(), open)(file, "rb")


def _in_zip(file: Path, _mode: str) -> IO[bytes]:
    """The only file of a zip archive."""
    with zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
        if len(names) != 1:
            raise ValueError(
                f"expected one file of bars in {file}, found {len(names)} ({', '.join(names[:5])}): unpack them into a "
                "folder and name the folder, or give one of them"
            )
        return archive.open(names[0])  # the open member keeps the file


def _of_zstandard(file: Path, _mode: str) -> IO[bytes]:
    """Arrow's reader, since zstandard's own takes a file that was cut off for a whole one."""
    import pyarrow

    return cast(IO[bytes], pyarrow.input_stream(str(file), compression="zstd"))


_OPEN: dict[str, Any] = dict(
    zip((".gz", ".bz2", ".xz", ".zst", ".zip"), (gzip.open, bz2.open, lzma.open, _of_zstandard, _in_zip), strict=True)
)
ENDINGS = (*(f"{kind}{packed}" for kind in (".csv", ".txt", ".tsv") for packed in ("", *_OPEN)), ".zip")


def _encoding(file: Path, content: bytes | None) -> str:
    """The encoding that the file's first bytes name, else UTF-8, or Windows' Latin where the beginning is no UTF-8."""
    with _opened(file, content) as handle:
        begin = handle.read(4096)
    if begin.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    if b"\0" in begin:
        raise _no_table(file, "it holds zero bytes")
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _layout(lines: list[str], file: Path) -> Layout:
    filled = [(number, line.rstrip("\r\n")) for number, line in enumerate(lines) if line.strip()]
    if not filled:
        raise ValueError(f"expected bars, found no rows in {file}: copy or download it again")
    if found := re.match(r"\s*(\[|\{|<!|<\?|<html)", filled[0][1]):
        raise _no_table(file, f"it begins with {found[1]}")
    for place, (number, line) in enumerate(filled):
        separator = _separator(line)
        if sum(plain(cell) in _KNOWN_PRICES for cell in _cells(line, separator)) >= 3:
            below = [_cells(text, separator) for _, text in filled[place + 1 : place + 3]]
            return _under_header(separator, number, _cells(line, separator), below)
    split = [(number, separator := _separator(line), _cells(line, separator)) for number, line in filled]
    number, separator, cells = next((line for line in split if _is_bar(line[2])), split[0])
    if not _is_bar(cells) or (
        number > split[0][0] and len(cells) == len(split[0][2])
    ):  # under a title, not under names
        return Layout(split[0][1], split[0][0] + 1, split[0][2])
    rows = [row for _, _, row in split if len(row) == len(cells) and _is_bar(row)]
    names, note = _usual_order(rows, f"{separator.join(cells)} in {file}")
    return Layout(separator, number, names, note=note)


def _no_table(file: Path, found: str) -> ValueError:
    return ValueError(f"expected a comma-separated text file, found {file} that is none ({found}): export it anew")


def _separator(line: str) -> str:
    return next((mark for mark in ";\t|," if mark in line), " ")


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def plain(name: Any) -> str:
    """A column's name without case, <brackets>, (units), blanks, signs and what marks a line of names."""
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]|^\$FORMAT ", "", str(name)).strip().strip("<>#.").strip().lower()
    return re.sub(r"[\s_/-]+", "", bare)


def _under_header(separator: str, number: int, names: list[str], below: list[list[str]]) -> Layout:
    """A header line, and the two further ones that yfinance writes: tickers, and the name of the index."""
    first = below[0] if below else []
    if separator == " " and len(first) == len(names) + 1 and re.match(r"\d{1,2}:\d\d", first[1]):
        names = ["date", "time", *names[1:]]  # one name above both
    if first and first[0].lower() == "ticker":
        more = 1 + (len(below) > 1 and not any(below[1][1:]))
        label = below[1][0] if more == 2 else "ts"
        note = f"{1 + more} header lines, as yfinance writes them"
        return Layout(separator, number + 1 + more, [label, *names[1:]], ["", *first[1:]], note)
    if any(first[len(names) :]):
        raise ValueError(
            f"expected a name for each column, found {len(names)} names above {len(first)} cells in line {number + 2}: "
            "name them all"
        )
    names = names + [f"column {k + 1}" for k in range(len(names), len(first))]  # commas that end each row
    return Layout(separator, number + 1, [name or f"column {k + 1}" if k else name for k, name in enumerate(names)])


def _is_bar(cells: list[str]) -> bool:
    """Whether the cells of a line are those of a bar and no names: four numbers beside a stamp."""
    return sum(map(_is_number, cells)) >= 4 and any(re.match(r"\d{1,4}[-/.]\d|\d{6,}", cell) for cell in cells)


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(?:[.,]\d+)?", text))


def _usual_order(rows: list[list[str]], shown: str) -> tuple[list[str], str]:
    """Names and a note in the order that fits all rows: stamps are stamps, the high is the highest of the four."""
    width = len(rows[0])
    for text, order in HEADERLESS.items():
        names = order[:width]
        if width >= len(order) - 1 and all(_fits(row, names) for row in rows):
            read_as = text if len(names) == len(order) else text.rpartition(",")[0]
            spare = [f"column {k + 1}" if k > len(order) else "volume 2" for k in range(len(names), width)]
            left_out = f"; {', '.join(spare)} left out" if spare else ""
            return [*names, *spare], f"no line of names: read as {read_as}{left_out}"
    day = "date,time" if re.fullmatch(r"[\d:]{3,8}", rows[0][1]) else "ts"
    raise ValueError(
        f"expected a first line that names the columns, found {shown}: write {day},open,high,low,close,volume (and "
        "contract) above the rows, in the file's order"
    )


def _fits(row: list[str], names: Sequence[str]) -> bool:
    """Whether a line is a bar in this order of columns."""
    cell = dict(zip(names, row, strict=False))
    if "symbol" in cell and not re.search(r"[A-Za-z]", cell["symbol"]):
        return False
    stamp = f"{cell['date']} {cell['time']}" if "date" in cell else cell["ts"]
    if "date" in cell and not re.fullmatch(r"\d{1,2}:\d\d.*|\d{1,6}", cell["time"]):
        return False
    if not readable([stamp]) or not all(_is_number(cell[name]) for name in names if name in (*PRICES, "volume")):
        return False
    open_, high, low, close = (float(cell[name].replace(",", ".")) for name in PRICES)
    return low <= min(open_, close) and high >= max(open_, close)


def written_numbers(columns: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Columns as float64: 4781.25, "4,781.25" and 4.781,25 where one meaning is left, NaN where there is no number.

    ValueError where a comma may part thousands or decimals.
    """
    texts = {
        name: column.astype("str").str.strip().str.replace(r"[\s\u00a0$€£_\"]|['’](?=\d{3})", "", regex=True)
        for name, column in columns.items()
        if not pd.api.types.is_numeric_dtype(column)
    }
    comma = _decimal_comma(texts, any(pd.api.types.is_float_dtype(column) for column in columns.values()))
    found = dict(columns)
    for name, text in texts.items():
        text = text.str.replace(".", "").str.replace(",", ".") if comma else text.str.replace(",", "")
        found[name] = pd.to_numeric(text.mask(text.str.lower().isin(NOTHING)), errors="coerce").astype("float64")
    return found


def _decimal_comma(texts: dict[str, pd.Series], points: bool) -> bool:
    """Whether commas part decimals instead of thousands; points: whether another column has decimals by points."""
    written = pd.concat(texts.values()) if texts else pd.Series(dtype="str")
    written = written[written.str.contains(r"^-?[\d.,]+$", regex=True, na=False)]
    with_comma = written[written.str.contains(",", regex=False)]
    if not len(with_comma):
        return False
    decimal = with_comma.str.contains(r"\..*,|,\d{1,2}$|,\d{4,}$", regex=True).any()
    thousands = (
        points
        or written.str.contains(r",.*\.|,\d{3},", regex=True).any()
        or (written.str.contains(".", regex=False).any() and not with_comma.str.contains(".", regex=False).any())
    )
    if decimal == thousands:
        raise ValueError(
            f"expected numbers of one meaning, found {with_comma.iloc[0]!r}, in which the comma may part thousands or "
            "decimals: write 4781.25"
        )
    return bool(decimal)


def not_numbers(column: pd.Series, number: pd.Series) -> np.ndarray:
    """True (N,) where a cell holds text that is no number and says more than that there is none."""
    if pd.api.types.is_numeric_dtype(column):
        return np.zeros(len(column), dtype=bool)
    text = column.astype("str").str.strip().str.lower()
    return (number.isna() & column.notna() & ~text.isin(NOTHING)).to_numpy()

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
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pandas as pd

from nqcast.market.schema import PRICES
from nqcast.market.spellings import COLUMNS, DATE, HEADERLESS, NOTHING, TIME
from nqcast.market.unpacked_size import require_bounded
from nqcast.market.written_stamps import readable

_PACKED = ("", ".gz", ".zst", ".bz2", ".xz", ".zip")
ENDINGS = (*(f"{kind}{packed}" for kind in (".csv", ".txt", ".tsv") for packed in _PACKED), ".zip")
_LOOK = 40  # lines


@dataclass(frozen=True)
class Layout:
    """Where the bars of a text file are: encoding, separator, lines before the first bar, names of the columns."""

    encoding: str
    separator: str
    skip: int
    names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    ticker: str | None = None


def read_text(file: Path) -> pd.DataFrame:
    """The rows of a text file under its own column names; numbers that are written otherwise than 4781.25 stay text.

    Raises ValueError for a file that is no text, several files in one, or a first line that cannot be understood.
    """
    try:
        if file.suffix.lower() in _PACKED[1:]:
            require_bounded(file, _opened(file, "latin-1"))
        layout = _layout(file)
        with _opened(file, layout.encoding) as handle:
            frame = pd.read_csv(
                handle,
                sep=layout.separator,
                skiprows=layout.skip,
                header=None,
                names=list(layout.names),
                index_col=False,
                dtype=cast(Any, _text_columns(layout.names)),
                skip_blank_lines=True,
                skipinitialspace=True,
                low_memory=False,
            )
    except (
        pd.errors.ParserError,
        pd.errors.EmptyDataError,
        UnicodeError,
        OSError,
        EOFError,
        csv.Error,
        zlib.error,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise ValueError(f"expected a comma-separated text file, found {file} that is none ({error})") from error
    if layout.ticker:
        frame["symbol"] = layout.ticker
    frame.attrs |= {"first_line": layout.skip + 1, "notes": list(layout.notes)}
    return frame


def _opened(file: Path, encoding: str) -> IO[str]:
    """The text of a file, unpacked; the caller closes it."""
    packed = file.suffix.lower()
    if packed == ".zip":
        return _in_zip(file, encoding)
    if packed == ".zst":
        import zstandard

        return cast(IO[str], zstandard.open(file, "rt", encoding=encoding, newline=""))
    opener: Any = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(packed, open)
    return cast(IO[str], opener(file, "rt", encoding=encoding, newline=""))


def _in_zip(file: Path, encoding: str) -> IO[str]:
    """The only file of a zip archive."""
    archive = zipfile.ZipFile(file)
    names = [name for name in archive.namelist() if not name.endswith("/") and not name.startswith("__MACOSX")]
    if len(names) != 1:
        archive.close()
        raise ValueError(
            f"expected one file of bars in {file}, found {len(names)} ({', '.join(names[:5])}): unpack them into a "
            "folder and name the folder, or give one of them"
        )
    inside = archive.open(names[0])
    archive.close()  # the open member keeps the file
    return io.TextIOWrapper(inside, encoding=encoding, newline="")


def _encoding(file: Path) -> str:
    """By the mark at the file's beginning; UTF-8 without one, or Windows' Latin where the beginning is no UTF-8."""
    with _opened(file, "latin-1") as handle:
        begin = str(handle.read(4096)).encode("latin-1")
    for mark, encoding in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if begin.startswith(mark):
            return encoding
    try:
        codecs.getincrementaldecoder("utf-8")().decode(begin)
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _layout(file: Path) -> Layout:
    encoding = _encoding(file)
    with _opened(file, encoding) as handle:
        lines = [line for _, line in zip(range(_LOOK), handle, strict=False)]
    if any("\0" in line for line in lines):
        raise ValueError(f"expected a comma-separated text file, found {file} that is none (it holds zero bytes)")
    filled = [(k, line.rstrip("\r\n")) for k, line in enumerate(lines) if line.strip()]
    if not filled:
        raise ValueError(f"expected bars, found no rows in {file}: copy or download it again")
    for place, (number, line) in enumerate(filled):
        separator = _separator(line)
        cells = _cells(line, separator)
        if sum(plain(cell) in _KNOWN_PRICES for cell in cells) >= 3:
            below = [_cells(text, separator) for _, text in filled[place + 1 : place + 3]]
            return _under_header(file, encoding, separator, number, tuple(cells), below)
    number, line = filled[0]
    cells = _cells(line, _separator(line))
    if _is_bar(cells):
        return _without_header(file, encoding, _separator(line), number, cells, filled)
    return Layout(encoding, _separator(line), number + 1, tuple(cells))


_KNOWN_PRICES = {spelling for price in PRICES for spelling in COLUMNS[price]}


def _separator(line: str) -> str:
    return next((mark for mark in ";\t|" if mark in line), ",")


def _cells(line: str, separator: str) -> list[str]:
    return [cell.strip() for cell in next(csv.reader([line], delimiter=separator, skipinitialspace=True))]


def plain(name: Any) -> str:
    """A column's name without case, <brackets>, (units) and blanks."""
    bare = re.sub(r"\([^)]*\)|\[[^\]]*\]", "", str(name)).strip().strip("<>").strip().lower()
    return re.sub(r"[\s_]+", "_", bare)


def _under_header(
    file: Path, encoding: str, separator: str, number: int, names: tuple[str, ...], below: list[list[str]]
) -> Layout:
    """A header line, and the two further ones that yfinance writes: tickers, and the name of the index."""
    doubled = sorted({name for name in map(plain, names) if list(map(plain, names)).count(name) > 1 and name})
    if below and below[0] and below[0][0].lower() == "ticker":
        tickers = sorted({cell for cell in below[0][1:] if cell})
        if len(tickers) > 1:
            raise ValueError(
                f"expected the bars of one product, found columns of {', '.join(tickers)} in {file}: download them one "
                "by one"
            )
        more = 2 if len(below) > 1 and below[1] and not any(below[1][1:]) else 1
        label = below[1][0] if more == 2 else "ts"
        note = f"{1 + more} header lines, as yfinance writes them"
        return Layout(
            encoding, separator, number + 1 + more, (label, *names[1:]), (note,), tickers[0] if tickers else None
        )
    if set(doubled) & {*_KNOWN_PRICES, *COLUMNS["volume"], *COLUMNS["ts"]}:
        raise ValueError(
            f"expected each column once, found {', '.join(map(repr, doubled))} more than once in {file}: leave one of "
            "each"
        )
    unique = [name or f"column {k + 1}" if k or name else "" for k, name in enumerate(names)]
    seen: dict[str, int] = {}
    for k, name in enumerate(unique):
        seen[name] = seen.get(name, 0) + 1
        unique[k] = name if seen[name] == 1 else f"{name}.{seen[name] - 1}"
    if below and len(below[0]) > len(unique) and not any(below[0][len(unique) :]):  # commas that end each row
        unique += [f"column {k + 1}" for k in range(len(unique), len(below[0]))]
    return Layout(encoding, separator, number + 1, tuple(unique))


def _is_bar(cells: list[str]) -> bool:
    """Whether the cells of a line are those of a bar and no names: four numbers beside a stamp."""
    return sum(_is_number(cell) for cell in cells) >= 4 and any(
        re.match(r"\d{1,4}[-/.]\d|\d{6,}", cell) for cell in cells
    )


def _is_number(text: str) -> bool:
    return bool(re.fullmatch(r"-?\d+(?:[.,]\d+)?", text))


def _without_header(
    file: Path, encoding: str, separator: str, number: int, cells: list[str], filled: list[tuple[int, str]]
) -> Layout:
    """The usual orders, where stamps are stamps and the high is the highest of the four in every line that was seen."""
    rows = [row for _, line in filled if len(row := _cells(line, separator)) == len(cells)]
    for text, order in HEADERLESS.items():
        names = order[: len(cells)]
        if len(cells) < len(order) - 1 or not all(_fits(row, names) for row in rows):
            continue
        spare = tuple(f"column {k + 1}" for k in range(len(names), len(cells)))
        note = f"no line of names: read as {text if len(names) == len(order) else text.rpartition(',')[0]}"
        return Layout(encoding, separator, number, (*names, *spare), (note,))
    shown = separator.join(cells)
    advice = (
        "date,time,open,high,low,close,volume"
        if re.fullmatch(r"[\d:]{3,8}", cells[1])
        else "ts,open,high,low,close,volume"
    )
    raise ValueError(
        f"expected a first line that names the columns, found {shown} in {file}: write {advice} (and contract) above "
        "the rows, in the file's order"
    )


def _fits(row: list[str], names: tuple[str, ...]) -> bool:
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


def _text_columns(names: tuple[str, ...]) -> dict[str, str]:
    """Columns that are text however they look: contracts, and stamps such as 0930."""
    text = {*DATE, *TIME, *COLUMNS["contract"], *COLUMNS["ts"], ""}
    return {name: "str" for name in names if plain(name) in text}


def written_numbers(columns: dict[str, pd.Series]) -> dict[str, pd.Series]:
    """Columns as float64: 4781.25, "4,781.25" and 4.781,25 where one meaning is left, NaN where there is no number.

    ValueError where a comma may part thousands or decimals.
    """
    texts = {name: column for name, column in columns.items() if not pd.api.types.is_numeric_dtype(column)}
    if not texts:
        return columns
    clean = {
        name: column.astype("str").str.strip().str.replace(r"[\s'\u00a0$€£_\"]", "", regex=True)
        for name, column in texts.items()
    }
    comma = _decimal_comma(clean, any(pd.api.types.is_float_dtype(column) for column in columns.values()))
    found = dict(columns)
    for name, text in clean.items():
        text = text.str.replace(".", "").str.replace(",", ".") if comma else text.str.replace(",", "")
        found[name] = pd.to_numeric(text.mask(text.str.lower().isin(NOTHING)), errors="coerce").astype("float64")
    return found


def _decimal_comma(clean: dict[str, pd.Series], points: bool) -> bool:
    """Whether commas part decimals instead of thousands; points: whether another column has decimals by points."""
    written = pd.concat(clean.values())
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
        example = with_comma.iloc[0]
        raise ValueError(
            f"expected numbers of one meaning, found {example!r}, in which the comma may part thousands or decimals: "
            "write 4781.25"
        )
    return bool(decimal)


def not_numbers(column: pd.Series, number: pd.Series) -> np.ndarray:
    """True (N,) where a cell holds text that is no number and says more than that there is none."""
    if pd.api.types.is_numeric_dtype(column):
        return np.zeros(len(column), dtype=bool)
    text = column.astype("str").str.strip().str.lower()
    return (number.isna() & column.notna() & ~text.isin(NOTHING)).to_numpy()

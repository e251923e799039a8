"""Readers of vendor files: Databento DBN, parquet, text, a folder of them, in the usual dialects."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS
from nqcast.market.contracts import as_names, expiry_month
from nqcast.market.instruments import known_products, table
from nqcast.market.schema import PRICES, missing_column_error
from nqcast.market.symbols import MONTH_CODES, Symbol, parse_symbol
from nqcast.market.tables import COLUMNS, DATE, IDENTITY, NOTHING, SUMMED_VOLUME, TIME
from nqcast.market.text_file import ENDINGS, not_numbers, plain, read_text, written_numbers
from nqcast.market.unpacked_size import TooLargeError, require_bounded, require_bounded_parquet
from nqcast.market.written_stamps import parsed_stamps, place_of, readable, require_both_halves

_PRICE_UNITS = 1_000_000_000  # per point
_NO_PRICE = np.iinfo(np.int64).max
_MOST_NAMED = 3
_MONTHS_AHEAD = 7  # of a contract's expiry, while it is in front
_DAYS = 1 << 20  # more than the days from 1970 on in which anything trades


def read_bars(path: str | Path) -> pd.DataFrame:
    """Raw bars of a vendor file or of a folder of files, as they came: ts, open, high, low, close, volume, contract.

    Taken: Databento DBN (.dbn, .dbn.zst) of an OHLCV schema, parquet, text (also compressed); volume and contract where
    the file has them. ts is UTC, or naive where the file names no zone (nqcast.market.schema.check_raw_bars decides
    about those). `attrs` hold the file's own columns and notes on how it was read. Raises ValueError, naming what was
    expected and what was found, for any file that cannot be read as bars.
    """
    file = Path(path)
    if file.is_dir():
        return _read_folder(file)
    if not file.exists():
        raise ValueError(f"expected a file of bars, found nothing at {file}: check the path")
    if file.stat().st_size == 0:
        raise ValueError(f"expected bars, found the empty file {file}: copy or download it again")
    for endings, read in _READERS.items():
        if file.name.lower().endswith(endings):
            if len(frame := read(file)):
                return frame
            raise ValueError(f"expected bars, found no rows in {file}: check the query that made it")
    raise ValueError(f"expected {KNOWN}, found {file.name!r}: convert the file or correct its ending")


def is_bars(file: Path) -> bool:
    """Whether a file is one of bars by its ending."""
    return file.name.lower().endswith(tuple(ending for endings in _READERS for ending in endings))


def _read_folder(folder: Path) -> pd.DataFrame:
    """All files of bars in a folder as one series, in the order of their first bars; overlaps and gaps are noted."""
    files = [
        file
        for file in sorted(folder.rglob("*"))
        if file.is_file()
        and not any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
        and is_bars(file)
    ]
    if not files:
        raise ValueError(f"expected files of bars in the folder {folder}, found none: check the path")
    frames = _by_name({file: _of_folder(file) for file in files})
    zoned = {frame["ts"].dt.tz is not None: file.name for file, frame in frames.items()}
    if len(zoned) > 1:
        raise ValueError(
            f"expected time stamps with a zone in all files of {folder}, or in none, found them in {zoned[True]} and "
            f"not in {zoned[False]}: export one of them anew"
        )
    ordered = sorted(frames.items(), key=lambda item: item[1]["ts"].min())
    joined = pd.concat([frame for _, frame in ordered], ignore_index=True)
    joined.attrs = {"columns": ordered[0][1].attrs.get("columns", []), "notes": _folder_notes(ordered)}
    return joined


def _of_folder(file: Path) -> pd.DataFrame:
    try:
        return read_bars(file)
    except ValueError as error:
        raise ValueError(f"{file.name}: {error}") from error


def _by_name(frames: dict[Path, pd.DataFrame]) -> dict[Path, pd.DataFrame]:
    """Bars without contracts under those that all their files' names say, as NQ_Z16_1min.csv, or else their products.

    A name may mean something else: NQ_2016-06-17.csv a day, NQ_M1.csv minutes, ENQH16.csv anything, NQ_mar16.csv, like
    all names of files that begin in the month they name, a month. It is a contract's where the files hold different
    prices of the same minutes.
    """
    bare = {file: bars for file, bars in frames.items() if "contract" not in bars}
    found = {file: _named_contract(file, bars) for file, bars in bare.items()}
    names = {file: name for file, (name, _) in found.items()}
    sure = any(sure for _, sure in found.values()) or not bare
    if not all(names.values()) or not (sure or _differ(bare.values())):
        names = {file: _named_product(file) for file in bare}
    if not all(names.values()):
        return frames
    return {file: bars.assign(contract=names[file]) if file in names else bars for file, bars in frames.items()}


def _named_contract(file: Path, bars: pd.DataFrame) -> tuple[str, bool]:
    """The contract that a file's name begins with, "" where its bars can be of none, and whether it means nothing else.

    Bars are of a contract of the product's months that expires at most `_MONTHS_AHEAD` after the newest of them.
    """
    oldest, newest = (12 * ts.year + ts.month - 1 for ts in (bars["ts"].min(), bars["ts"].max()))
    for name, symbol in (begin for begin in _begins(file) if begin[1].kind == "contract"):
        months = table()[symbol.product].months if symbol.product in table() else MONTH_CODES
        ahead = expiry_month(symbol, newest // 12, newest % 12 + 1) - newest
        if MONTH_CODES[symbol.month] in months and -1 <= ahead <= _MONTHS_AHEAD:
            dated = re.search(r"(?:19|20)\d\d[-_]?\d", name) or (len(symbol.year) == 1 and not name.isalnum())
            return name, not dated and newest + ahead != oldest and symbol.product in known_products()
    return "", False


def _named_product(file: Path) -> str:
    """The product that a file's name begins with; "" where it names none."""
    known = known_products()
    return next((name for name, of in _begins(file) if of.kind == "continuous" and of.product in known), "")


def _begins(file: Path) -> Iterator[tuple[str, Symbol]]:
    """The beginnings of a file's name that name a product, longest first."""
    stem = file.name.partition(".")[0]
    for end in (len(stem), *(part.start() for part in reversed([*re.finditer(r"[ _-]", stem)]))):
        if (symbol := parse_symbol(stem[:end])).product:
            yield stem[:end], symbol


def _differ(frames: Iterable[pd.DataFrame]) -> bool:
    """Whether the frames hold different closes of the same minute."""
    closes = pd.concat([bars[["ts", "close"]] for bars in frames]).drop_duplicates()
    return bool(closes["ts"].duplicated().any())


def _folder_notes(ordered: list[tuple[Path, pd.DataFrame]]) -> list[str]:
    notes = [f"{len(ordered)} files, {ordered[0][0].name} to {ordered[-1][0].name}"]
    for (before, one), (after, other) in pairwise(ordered):
        end, begin = one["ts"].max(), other["ts"].min()
        if begin <= end and "contract" not in one:
            notes.append(f"{before.name} and {after.name} overlap from {begin} to {end}: equal rows are taken once")
        elif begin - end > pd.Timedelta(days=4):
            notes.append(f"no file between {before.name}, which ends {end}, and {after.name}, which begins {begin}")
    notes += [note for _, frame in ordered[:1] for note in frame.attrs.get("notes", [])]
    return notes


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        require_bounded_parquet(file)
        frame = pd.read_parquet(file)
    except TooLargeError:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"expected a parquet file, found {file} that is none or is damaged ({error})") from error
    return as_raw_bars(frame)


def as_raw_bars(bars: Any) -> pd.DataFrame:
    """A table of bars under our column names, with stamps and numbers read and the other columns left out.

    bars: a pandas, polars or Arrow table, a dict of columns or a list of rows (dicts).

    Raises ValueError for another object, a missing or doubled column, a price that is no number, a stamp that is none.
    Lines in which nothing can be read, such as a vendor's last line, become rows without stamp and prices, and a note.
    """
    frame = _each_once(_flat(_frame(bars)))
    if not len(frame):
        return frame
    lower = {plain(column): column for column in frame.columns}
    source = {name: spelled for name, spellings in COLUMNS.items() if (spelled := _first(spellings, lower)) is not None}
    found = {name: frame[column] for name, column in source.items() if name not in ("volume", "contract")}
    if "ts" not in found:
        found["ts"] = _stamps(frame, lower)
    for name in PRICES:
        if name not in found:
            raise missing_column_error(name, frame.columns, f"rename the file's column to {name}")
    volume, note = _volume(frame, lower)
    found |= {} if volume is None else {"volume": volume}
    numbers = _numbers({name: found[name] for name in (*PRICES, "volume") if name in found}, "rtype" in lower)
    found["ts"].attrs = frame.attrs
    stamps = parsed_stamps(_without_a_torn_end(found["ts"], [numbers[name] for name in PRICES]))
    stamps = _in_named_zone(stamps, found["ts"].name)
    stamps.attrs = {**frame.attrs, **stamps.attrs}
    if stamps.dt.tz is None:
        require_both_halves(stamps)
    notes = [*frame.attrs.get("notes", []), *note, *_unreadable(frame, found, stamps, numbers)]
    contract = _contract(frame, lower)
    if contract and _first((*COLUMNS["contract"], *IDENTITY), lower) is None:
        notes.append(f"contract = {contract['contract'].name}")
    found |= {"ts": stamps, **numbers, **contract}
    raw = pd.DataFrame({name: found[name].reset_index(drop=True) for name in COLUMNS if name in found}, copy=False)
    raw.attrs = {"columns": [str(column) for column in frame.columns], **stamps.attrs, "notes": notes}
    return raw


def _frame(bars: Any) -> pd.DataFrame:
    """A pandas frame of any table that pandas or Arrow can take."""
    if isinstance(bars, pd.DataFrame):
        return bars
    try:
        if hasattr(bars, "__arrow_c_stream__"):
            import pyarrow

            return pyarrow.table(bars).to_pandas()
        if isinstance(bars, dict | list) and len(bars):
            return pd.DataFrame(bars)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expected a table of bars, found a {type(bars).__name__} that is none ({error})") from error
    raise ValueError(
        f"expected a table of bars (pandas, polars, Arrow, a dict of columns) or the path of a file, found "
        f"{type(bars).__name__}: give one row per bar with ts, open, high, low, close, volume"
    )


def _flat(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with an index of times or names among its columns, whose names have one level."""
    attrs = frame.attrs
    if isinstance(frame.columns, pd.MultiIndex):  # (Price, Ticker), as yfinance makes them
        tickers = sorted({str(part) for part in frame.columns.get_level_values(1) if str(part)})
        if len(tickers) > 1:
            raise ValueError(
                f"expected the bars of one product, found columns of {', '.join(tickers)}: give one of them"
            )
        frame = frame.set_axis(frame.columns.get_level_values(0), axis=1)
        frame = frame.assign(symbol=tickers[0]) if tickers and "symbol" not in frame else frame
    if isinstance(frame.index, pd.DatetimeIndex) and frame.index.name is None:
        frame = frame.rename_axis("ts")
    named = [name for name in frame.index.names if name is not None and name not in frame.columns]
    if named:
        frame = frame.reset_index(level=named).reset_index(drop=True)
    frame.attrs = attrs
    return frame


def _each_once(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame without columns that repeat another; ValueError where a column of bars is there with other contents."""
    names = pd.Index([plain(column) for column in frame.columns])
    again = names.duplicated()
    if not again.any():
        return frame
    for name in names[again].unique().intersection([each for known in COLUMNS.values() for each in known]):
        same = frame.loc[:, names == name]
        if not all(same.iloc[:, 0].equals(same.iloc[:, k]) for k in range(1, same.shape[1])):
            raise ValueError(
                f"expected one column {str(same.columns[0])!r}, found {same.shape[1]} with other contents among "
                f"{[str(column) for column in frame.columns]}: leave one of them"
            )
    return frame.loc[:, ~again]


def _first(spellings: Iterable[str], lower: Mapping[str, str]) -> str | None:
    return next((lower[spelling] for spelling in spellings if spelling in lower), None)


def _stamps(frame: pd.DataFrame, lower: Mapping[str, str]) -> pd.Series:
    """Stamps from a column `date`, from `time`, from both, or from a first column without a name."""
    present = [column for names in (DATE, TIME) if (column := _first(names, lower)) is not None]
    if not present:
        first = frame.columns[0]
        unnamed = str(first) == "" or str(first).startswith("Unnamed")
        if unnamed and readable(frame[first].astype("str").head(20)):
            return frame[first].rename("(the first, without a name)")
        raise missing_column_error("ts", frame.columns, "rename the column of the bars' start times to ts")
    if len(present) == 1:
        return frame[present[0]]
    day, clock = (frame[name] for name in present)
    if pd.api.types.is_datetime64_any_dtype(day):
        day = day.dt.strftime("%Y-%m-%d")
    both = day.astype("str").str.strip() + " " + clock.astype("str").str.strip()
    return both.rename(f"{present[0]} {present[1]}")


def _without_a_torn_end(stamps: pd.Series, prices: list[pd.Series]) -> pd.Series:
    """Stamps as text without the last one where its line was cut off inside it: it has no prices, and is shorter."""
    torn = pd.api.types.is_string_dtype(stamps) and len(stamps) > 1 and all(pd.isna(price.iloc[-1]) for price in prices)
    if not torn or len(str(stamps.iloc[-1])) >= len(str(stamps.iloc[-2])):
        return stamps
    return stamps.mask(stamps.index == stamps.index[-1])


def _in_named_zone(stamps: pd.Series, name: Hashable) -> pd.Series:
    """Stamps in UTC where the column's name says so, as `Gmt time` does."""
    if stamps.dt.tz is None and re.search(r"\b(?:gmt|utc)\b", str(name).lower().replace("_", " ")):
        return stamps.dt.tz_localize("UTC")
    return stamps


def _volume(frame: pd.DataFrame, lower: Mapping[str, str]) -> tuple[pd.Series | None, list[str]]:
    """The volume, if there is one, and a note where it is another column's than the usual one."""
    sources = {str(lower[spelling]): frame[lower[spelling]] for spelling in COLUMNS["volume"] if spelling in lower}
    for up, down in ((lower[up], lower[down]) for up, down in SUMMED_VOLUME if up in lower and down in lower):
        parts = written_numbers({"up": frame[up], "down": frame[down]})
        sources[f"{up} + {down}"] = (parts["up"] + parts["down"]).rename(f"{up} + {down}")
    first = next(iter(sources), None)
    if first is None:
        like = [str(column) for name, column in lower.items() if "vol" in name]
        return None, [f"no volume is read, which {', '.join(like)} may hold: name it volume"] if like else []
    chosen = next((name for name in sources if not _nothing_but_0(sources[name])), first) if len(sources) > 1 else first
    instead = [f"volume from {chosen!r}: {first!r} is 0 in every row"] if chosen != first else []
    return sources[chosen], instead or ([f"volume = {chosen}"] if " + " in chosen else [])


def _nothing_but_0(column: pd.Series) -> bool:
    """Whether each cell is 0 or nothing, however numbers are written."""
    if pd.api.types.is_numeric_dtype(column):
        return not (column.fillna(0) != 0).any()
    text = column.astype("str").str.strip().str.lower()
    return bool((text.isin(NOTHING) | text.str.fullmatch(r"0*[.,]?0*")).all())


def _numbers(columns: dict[str, pd.Series], fixed: bool) -> dict[str, pd.Series]:
    """Prices and volume as numbers; fixed: whole prices are Databento's integers of 1e-9, as its records have them."""
    for name, column in columns.items():
        if pd.api.types.is_bool_dtype(column) or pd.api.types.is_complex_dtype(column):
            raise ValueError(
                f"expected numbers in column {column.name!r}, found {column.iloc[0]!r} in all of it: bring prices"
            )
        if fixed and name in PRICES and pd.api.types.is_integer_dtype(column):
            columns[name] = column.mask(column == _NO_PRICE) / _PRICE_UNITS  # dividing gives 4781.25 exactly
    return written_numbers(columns)


def _unreadable(
    frame: pd.DataFrame, found: dict[str, pd.Series], stamps: pd.Series, numbers: dict[str, pd.Series]
) -> list[str]:
    """Notes of lines in which nothing can be read; ValueError where only a stamp or a number cannot be."""
    stampless = (stamps.isna() & found["ts"].notna()).to_numpy()
    junk = stampless & np.logical_and.reduce([numbers[name].isna() for name in PRICES])
    wrong = {"ts": stampless, **{name: not_numbers(found[name], number) for name, number in numbers.items()}}
    for name, rows in ((name, np.flatnonzero(each & ~junk)) for name, each in wrong.items()):
        if len(rows):
            wanted = "a time stamp" if name == "ts" else "numbers"
            cure = "write it as 2016-09-08T00:00:00Z" if name == "ts" else "remove text and currency signs"
            raise ValueError(
                f"expected {wanted} in column {str(found[name].name)!r}, found {found[name].iloc[rows[0]]!r} in "
                f"{place_of(rows[0], frame.attrs)} ({_row_text(frame, rows[0])}; {len(rows)} such rows): {cure}"
            )
    rows = np.flatnonzero(junk)
    notes = [f"{place_of(row, frame.attrs)} is no bar: {_row_text(frame, row)}" for row in rows[:_MOST_NAMED]]
    return notes + ([f"and {len(rows) - _MOST_NAMED} more lines that are no bars"] if len(rows) > _MOST_NAMED else [])


def _row_text(frame: pd.DataFrame, row: int) -> str:
    """A row as it stands in the file."""
    return ",".join(str(cell) for cell in frame.iloc[row] if not pd.isna(cell))


def _contract(frame: pd.DataFrame, lower: Mapping[str, str]) -> dict[str, pd.Series]:
    """Contract text, where there is one; a continuous symbol, or none, is told apart by the instrument id."""
    columns = [lower[spelling] for spelling in COLUMNS["contract"] if spelling in lower]
    present = [as_names(frame[column]) for column in columns or frame.columns if columns or _is_contract(frame[column])]
    names = _with_product(min(present, key=_says_less), present) if len(present) > 1 else next(iter(present), None)
    number = _first(IDENTITY, lower)
    if number is None:
        return {} if names is None else {"contract": names}
    identity = as_names(frame[number])
    if names is None or names.isna().all():
        return {"contract": identity}
    continuous = names.isin([name for name in names.cat.categories if parse_symbol(name).kind == "continuous"])
    if not continuous.any():
        return {"contract": names}
    text = names.astype("str")
    return {"contract": text.mask(continuous, text + "#" + identity.astype("str"))}


def _is_contract(column: pd.Series) -> bool:
    """Whether a column of another name holds contracts of one known product in every row."""
    if not pd.api.types.is_string_dtype(column) and not isinstance(column.dtype, pd.CategoricalDtype):
        return False
    if parse_symbol(str(column.iloc[0])).kind != "contract" or column.isna().any():
        return False
    symbols = [parse_symbol(name) for name in as_names(column).cat.categories]
    products = {symbol.product if symbol.kind == "contract" else None for symbol in symbols}
    return len(products) == 1 and products <= set(known_products())


def _with_product(names: pd.Series, present: list[pd.Series]) -> pd.Series:
    """Names of contracts that say no product, 201612, with that of another column: NQ 201612."""
    if _says_less(names) != (False, True, False):
        return names
    for column in present:
        roots = {name: parse_symbol(name) for name in column.cat.categories}
        if roots and all(symbol.kind == "continuous" for symbol in roots.values()):
            product = column.map({name: symbol.product for name, symbol in roots.items()}).astype("str")
            return as_names((product + " " + names.astype("str")).where(names.notna() & column.notna()))
    return names


def _says_less(names: pd.Series) -> tuple[bool, bool, bool]:
    """Whether the symbols of a column name no contract, no product, nothing: the least is the one to read."""
    symbols = [parse_symbol(name) for name in names.cat.categories]
    contracts = [symbol for symbol in symbols if symbol.kind == "contract"]
    return not contracts, not any(symbol.product for symbol in contracts or symbols), not symbols


def _read_dbn(file: Path) -> pd.DataFrame:
    import databento
    import zstandard
    from databento.common.error import BentoWarning
    from databento_dbn import DBNError

    try:
        if file.suffix.lower() == ".zst":
            require_bounded(file, zstandard.open(file, "rb"))
        store = databento.DBNStore.from_bytes(io.BytesIO(file.read_bytes()))  # from_file leaves the file open
        schema = str(store.schema)
        if not schema.startswith("ohlcv"):
            raise ValueError(f"expected bars (schema ohlcv-1m), found {schema}: download ohlcv-1m")
        with warnings.catch_warnings():
            warnings.simplefilter("error", BentoWarning)  # a truncated file is otherwise read as far as it goes
            records = store.to_ndarray()
    except (databento.BentoError, BentoWarning, DBNError, zstandard.ZstdError) as error:
        raise ValueError(f"expected a DBN file, found {file} that is none or is damaged ({error})") from error
    columns = {name: records[name].astype("int64") for name in ("rtype", "instrument_id", *PRICES, "volume")}
    ts = pd.to_datetime(records["ts_event"].astype("int64"), unit="ns", utc=True)
    return as_raw_bars(pd.DataFrame({"ts": ts, **columns, "symbol": _dbn_symbols(columns["instrument_id"], ts, store)}))


def _dbn_symbols(instrument: np.ndarray, ts: pd.DatetimeIndex, store: Any) -> pd.Categorical:
    """The symbol that each record's instrument id has on its day (N,): databento's table, asked once for each pair."""
    from databento.common.symbology import InstrumentMap

    code, pairs = pd.factorize(instrument * _DAYS + ts.asi8 // DAY_NS)
    identifier, days = np.divmod(pairs, _DAYS)
    known = InstrumentMap()
    known.insert_metadata(store.metadata)
    of_pair, names = pd.factorize(known.resolve_many(identifier.astype("uint64"), days.astype("datetime64[D]")))
    return pd.Categorical.from_codes(of_pair[code], names)


_READERS: dict[tuple[str, ...], Callable[[Path], pd.DataFrame]] = {
    (".dbn", ".dbn.zst"): _read_dbn,
    (".parquet", ".pq"): _read_parquet,
    ENDINGS: lambda file: as_raw_bars(read_text(file)),
}
KNOWN = ".dbn, .dbn.zst, .parquet, .csv, .txt or .tsv, also packed"
"""What `is_bars` takes, in words."""

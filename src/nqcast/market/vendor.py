"""Readers of vendor files: Databento DBN, parquet, CSV, in the usual spellings of columns."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.schema import PRICES, missing_column_error

_SPELLINGS = {
    "ts": ("ts", "ts_event", "timestamp", "datetime", "date_time", "date time", "time_utc", "bar_start"),
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "last", "close_price"),
    "volume": ("volume", "v", "vol", "total_volume"),
    "contract": ("contract", "symbol", "raw_symbol", "instrument", "ticker"),
}
_EPOCH_NS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (10**8, 10**9))
_PRICE_UNITS = 1_000_000_000  # per point
_DAY_NS = 86_400_000_000_000
_NO_PRICE = np.iinfo(np.int64).max


def read_bars(path: str | Path) -> pd.DataFrame:
    """Raw bars of a vendor file, as they came: ts, open, high, low, close, volume and contract where the file has them.

    Taken: Databento DBN (.dbn, .dbn.zst) of an OHLCV schema, parquet, CSV (also compressed). ts is UTC, or naive where
    the file names no zone (nqcast.market.schema.check_raw_bars decides about those). Raises ValueError, naming what
    was expected and what was found, for any file that cannot be read as bars.
    """
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"expected a file of bars, found the folder {file}: name one file in it")
    if not file.exists():
        raise ValueError(f"expected a file of bars, found nothing at {file}: check the path")
    if file.stat().st_size == 0:
        raise ValueError(f"expected bars, found the empty file {file}: copy or download it again")
    reader = _reader(file)
    frame = reader(file)
    if not len(frame):
        raise ValueError(f"expected bars, found no rows in {file}: check the query that made it")
    return frame


def _reader(file: Path) -> Callable[[Path], pd.DataFrame]:
    name = file.name.lower()
    if name.endswith((".dbn", ".dbn.zst")):
        return _read_dbn
    if name.endswith((".parquet", ".pq")):
        return _read_parquet
    if name.endswith((".csv", ".txt", ".csv.gz", ".csv.zst", ".csv.bz2", ".csv.xz", ".csv.zip")):
        return _read_csv
    raise ValueError(
        f"expected .dbn, .dbn.zst, .parquet or .csv, found {file.name!r}: convert the file or correct its ending"
    )


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ValueError(f"expected a parquet file, found {file} that is none or is damaged ({error})") from error
    return as_raw_bars(frame)


def _read_csv(file: Path) -> pd.DataFrame:
    text = {name for column in ("contract", "ts") for name in _SPELLINGS[column]}
    try:
        header = pd.read_csv(file, nrows=0)
        separator = next((mark for mark in ";\t|" if len(header.columns) == 1 and mark in header.columns[0]), ",")
        names = header.columns[0].split(separator) if separator != "," else header.columns
        types: Any = {name: "str" for name in names if str(name).strip().lower() in {*text, "date", "time"}}
        frame = pd.read_csv(file, sep=separator, dtype=types)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"expected a comma-separated text file, found {file} that is none ({error})") from error
    return as_raw_bars(frame)


def as_raw_bars(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of bars under our column names, with stamps parsed and the other columns left out.

    A DatetimeIndex is taken for the stamps. ValueError where stamps or prices are missing.
    """
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "ts")
    lower = {str(column).strip().lower(): column for column in reversed(frame.columns)}
    found = {
        name: frame[lower[spelling]]
        for name, spellings in _SPELLINGS.items()
        if (spelling := next((s for s in spellings if s in lower), None)) is not None
    }
    if "ts" not in found:
        found["ts"] = _date_and_time(frame, lower)
    for name in PRICES:
        if name not in found:
            raise missing_column_error(name, frame.columns, "rename the column of the file")
    found["ts"] = _stamps(found["ts"])
    if "contract" in found:
        found["contract"] = _contract(found["contract"], frame, lower)
    return pd.DataFrame({name: found[name].reset_index(drop=True) for name in _SPELLINGS if name in found})


def _date_and_time(frame: pd.DataFrame, lower: dict[str, Any]) -> pd.Series:
    """Stamps from a column `date`, from `time`, or from both."""
    present = [lower[name] for name in ("date", "time") if name in lower]
    if not present:
        raise missing_column_error("ts", frame.columns, "rename the column of the bars' start times")
    if len(present) == 1:
        return frame[present[0]]
    day, clock = (frame[name] for name in present)
    if pd.api.types.is_datetime64_any_dtype(day):
        day = day.dt.strftime("%Y-%m-%d")
    return day.astype("str").str.strip() + " " + clock.astype("str").str.strip()


def _stamps(ts: pd.Series) -> pd.Series:
    """Stamps as datetime64: numbers are epochs (UTC; the unit by size), text is parsed, naive text stays naive."""
    if pd.api.types.is_datetime64_any_dtype(ts) or not len(ts):
        return ts
    numeric = pd.to_numeric(ts, errors="coerce") if not pd.api.types.is_numeric_dtype(ts) else ts
    if numeric.notna().all():
        return _epoch(numeric.astype("int64"))
    try:
        return pd.to_datetime(ts, format="ISO8601", utc=not _naive_text(ts))
    except ValueError as not_iso:
        parsed = _slashed(ts)
        if parsed is None:
            raise ValueError(
                f"expected time stamps in column {ts.name!r} in one clear format, found text such as {ts.iloc[0]!r}: "
                "write them as 2016-09-08T00:00:00Z"
            ) from not_iso
        return parsed


def _epoch(count: pd.Series) -> pd.Series:
    """Stamps from seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size."""
    factor = next((factor for least, factor in _EPOCH_NS if count.iloc[0] >= least), None)
    if factor is None:
        raise ValueError(
            f"expected time stamps in column {count.name!r}, found the number {count.iloc[0]}: "
            "write them as 2016-09-08T00:00:00Z"
        )
    return pd.Series(pd.DatetimeIndex(count.to_numpy() * factor, tz="UTC"), name=count.name)


def _naive_text(ts: pd.Series) -> bool:
    """Whether the first stamp names no zone: neither Z, UTC nor an offset at its end."""
    return re.search(r"(Z|UTC|:\d{2}(\.\d+)?\s*[+-]\d{2}(:?\d{2})?)$", str(ts.iloc[0]).strip()) is None


def _slashed(ts: pd.Series) -> pd.Series | None:
    """Stamps such as 09/28/2016 14:30, taken only if exactly one order of day and month fits every row."""
    orders = (f"%{a}/%{b}/%Y" for a, b in ("md", "dm"))
    text = ts.str.replace(r"[.-]", "/", n=2, regex=True)
    fits = []
    for order in orders:
        for clock in ("%H:%M", "%H:%M:%S"):
            try:
                fits.append(pd.to_datetime(text, format=f"{order} {clock}"))
            except ValueError:
                continue
    return fits[0] if len(fits) == 1 else None


def _contract(contract: pd.Series, frame: pd.DataFrame, lower: dict[str, Any]) -> pd.Series:
    """Contract text; a continuous symbol is told apart by the instrument id where the file has one."""
    text = contract.astype("str").str.strip()
    if "instrument_id" not in lower or not text.str.contains(r"\.[cvn]\.\d", regex=True).any():
        return text
    return text + "#" + frame[lower["instrument_id"]].astype("str")


def _read_dbn(file: Path) -> pd.DataFrame:
    import databento
    from databento.common.error import BentoWarning

    try:
        store = databento.DBNStore.from_bytes(file.read_bytes())  # from_file leaves the file open
        schema = str(store.schema)
        if not schema.startswith("ohlcv"):
            raise ValueError(f"expected bars (schema ohlcv-1m), found {schema}: download ohlcv-1m")
        with warnings.catch_warnings():
            warnings.simplefilter("error", BentoWarning)  # a truncated file is otherwise read as far as it goes
            records = store.to_ndarray()
    except (databento.BentoError, BentoWarning) as error:
        raise ValueError(f"expected a DBN file, found {file} that is none or is damaged ({error})") from error
    stamp = records["ts_event"].astype("int64")
    return pd.DataFrame(
        {
            "ts": pd.to_datetime(stamp, unit="ns", utc=True),
            **{name: _dbn_price(records[name]) for name in PRICES},
            "volume": records["volume"].astype("int64"),
            "contract": _dbn_contract(records["instrument_id"], stamp, store),
        }
    )


def _dbn_price(fixed: np.ndarray) -> np.ndarray:
    return np.where(fixed == _NO_PRICE, np.nan, fixed / _PRICE_UNITS)  # dividing gives 4781.25 exactly


def _dbn_contract(instrument: np.ndarray, stamp: np.ndarray, store: Any) -> pd.Series:
    """Contract of each record: the raw symbol its instrument id had on that day, or symbol#id for a continuous one."""
    continuous = str(store.stype_in) not in ("raw_symbol", "parent", "instrument_id")
    identifier, code = np.unique(instrument, return_inverse=True)
    names = [str(number) for number in identifier]
    day = stamp // _DAY_NS
    for symbol, intervals in store.mappings.items():
        for interval in intervals:
            place = int(np.searchsorted(identifier, int(interval["symbol"])))
            if place == len(identifier) or identifier[place] != int(interval["symbol"]):
                continue
            first, end = (np.datetime64(interval[key], "D").astype(int) for key in ("start_date", "end_date"))
            names.append(f"{symbol}#{interval['symbol']}" if continuous else symbol)
            code[(instrument == identifier[place]) & (day >= first) & (day < end)] = len(names) - 1
    return pd.Series(pd.array(names, dtype="str").take(code))

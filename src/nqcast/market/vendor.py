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
from nqcast.market.written_stamps import parsed_stamps

_SPELLINGS = {
    "ts": ("ts", "ts_event", "timestamp", "datetime", "date_time", "date time", "time_utc", "bar_start"),
    "open": ("open", "o", "open_price"),
    "high": ("high", "h", "high_price"),
    "low": ("low", "l", "low_price"),
    "close": ("close", "c", "last", "close_price"),
    "volume": ("volume", "v", "vol", "total_volume", "tickvol", "tick_volume"),
    "contract": ("contract", "symbol", "raw_symbol", "instrument", "ticker"),
}
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
    try:
        head = pd.read_csv(file, nrows=100, dtype="str", sep=_separator(file))
        _require_header(file, head.columns)
        frame = pd.read_csv(
            file, sep=_separator(file), dtype=_text_columns(head.columns), decimal="," if _decimal_comma(head) else "."
        )
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OSError) as error:
        raise ValueError(f"expected a comma-separated text file, found {file} that is none ({error})") from error
    return as_raw_bars(frame)


def _separator(file: Path) -> str:
    (header,) = pd.read_csv(file, nrows=1, header=None, sep="\0", dtype="str").iloc[0]
    return next((mark for mark in ";\t|" if mark in header), ",")


def _require_header(file: Path, names: pd.Index) -> None:
    if all(re.fullmatch(r"[\d\s:./,+TZ-]+", str(name)) for name in names):
        raise ValueError(
            f"expected a first line that names the columns, found {', '.join(map(str, names))} in {file}: "
            "write ts,open,high,low,close,volume (and contract) above the rows, in the file's order"
        )


def _text_columns(names: pd.Index) -> dict[str, str]:
    """Columns that are text however they look: contracts, and stamps such as 0930."""
    text = {"date", "time", *_SPELLINGS["contract"], *_SPELLINGS["ts"]}
    return {name: "str" for name in names if _plain(name) in text}


def _decimal_comma(head: pd.DataFrame) -> bool:
    """Whether prices are written 4781,25."""
    prices = [name for name in head if _plain(name) in {spelling for p in PRICES for spelling in _SPELLINGS[p]}]
    written = pd.Series(head[prices].to_numpy().ravel(), dtype="string").dropna()  # may be empty, of any type
    return bool(written.str.fullmatch(r"-?\d+,\d+").any()) and not bool(written.str.contains(".", regex=False).any())


def _plain(name: Any) -> str:
    """A column's name without case, blanks and the <brackets> of some exports."""
    return str(name).strip().strip("<>").lower()


def as_raw_bars(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame of bars under our column names, with stamps parsed and the other columns left out.

    A DatetimeIndex is taken for the stamps. ValueError where stamps or prices are missing.
    """
    if isinstance(frame.index, pd.DatetimeIndex):
        frame = frame.reset_index(names=frame.index.name or "ts")
    lower = {_plain(column): column for column in reversed(frame.columns)}
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
    found["ts"] = parsed_stamps(found["ts"])
    if "rtype" in lower:
        found |= {
            name: pd.Series(_dbn_price(found[name])) for name in PRICES if pd.api.types.is_integer_dtype(found[name])
        }
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


def _dbn_price(fixed: Any) -> Any:
    """Points from the format's integers, 1e-9 each."""
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

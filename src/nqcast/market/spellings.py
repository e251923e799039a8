"""How vendors spell columns, orders of columns and zones: data, no rules."""

from __future__ import annotations

COLUMNS: dict[str, tuple[str, ...]] = {
    "ts": (
        *("ts", "ts_event", "timestamp", "datetime", "date_time", "time_utc", "bar_start", "window_start", "gmt_time"),
        *("local_time", "utc_time", "time_stamp", "datetime_utc", "timestamp_utc", "start_time", "bar_time", "t"),
    ),
    "open": ("open", "o", "open_price", "openprice"),
    "high": ("high", "h", "high_price", "highprice", "max"),
    "low": ("low", "l", "low_price", "lowprice", "min"),
    "close": ("close", "c", "last", "latest", "close_price", "closeprice"),
    "volume": (
        "volume",
        "v",
        "vol",
        "total_volume",
        "totalvolume",
        "real_volume",
        "tickvol",
        "tick_volume",
        "tickvolume",
    ),
    "contract": ("contract", "symbol", "raw_symbol", "instrument", "ticker", "s"),
}
"""Our name of a column to its spellings, the better one first; without case, brackets and with _ for blanks."""

DATE, TIME, IDENTITY = ("date", "day", "trade_date"), ("time", "hour", "trade_time", "bar_time"), "instrument_id"

SUMMED_VOLUME = (("up", "down"), ("up_volume", "down_volume"), ("upvol", "downvol"), ("bidvolume", "askvolume"))
"""Pairs of columns whose sum is the volume, where no column holds it."""

HEADERLESS = {
    "date and time, open, high, low, close, volume": ("ts", "open", "high", "low", "close", "volume"),
    "date, time, open, high, low, close, volume": ("date", "time", "open", "high", "low", "close", "volume"),
    "symbol, date and time, open, high, low, close, volume": (
        *("symbol", "ts", "open", "high", "low", "close", "volume"),
    ),
    "symbol, date, time, open, high, low, close, volume": (
        *("symbol", "date", "time", "open", "high", "low", "close", "volume"),
    ),
}
"""Orders of columns in files whose first line is a bar; what follows the volume is left out, volume may lack."""

ZONES = {
    **dict.fromkeys(("Z", "UTC", "GMT"), "UTC"),
    **{"EST": "Etc/GMT+5", "EDT": "Etc/GMT+4", "CST": "Etc/GMT+6", "CDT": "Etc/GMT+5"},
    **{"MST": "Etc/GMT+7", "MDT": "Etc/GMT+6", "PST": "Etc/GMT+8", "PDT": "Etc/GMT+7"},
    **{"CET": "Etc/GMT-1", "CEST": "Etc/GMT-2", "EET": "Etc/GMT-2", "EEST": "Etc/GMT-3", "BST": "Etc/GMT-1"},
    **{"ET": "America/New_York", "CT": "America/Chicago", "NY": "America/New_York"},
}
"""Names of zones that stamps end in, beside those with a slash (US/Central); an Etc zone counts west of Greenwich."""

NOTHING = ("", "-", "--", "n/a", "na", "nan", "null", "none", "#n/a", "nat", ".", "?")
"""What stands where there is no number."""

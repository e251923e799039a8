"""Time stamps as vendors write them: epochs, ISO text, days and months in either order."""

from __future__ import annotations

import pandas as pd

_EPOCH_NS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (10**8, 10**9))
_FIRST_NS, _LAST_NS = (pd.Timestamp(year).as_unit("ns").value for year in ("1990", "2099"))


def parsed_stamps(ts: pd.Series) -> pd.Series:
    """Stamps as datetime64: numbers are epochs (UTC; the unit by size), text is parsed, naive text stays naive.

    Raises ValueError for what can be read in no way, or in two.
    """
    if pd.api.types.is_datetime64_any_dtype(ts) or not len(ts):
        return ts
    numeric = pd.to_numeric(ts, errors="coerce") if not pd.api.types.is_numeric_dtype(ts) else ts
    if numeric.notna().all():
        return _epoch(numeric.astype("int64"))
    naive = _naive_text(ts)
    try:
        return pd.to_datetime(ts, format="ISO8601", utc=not naive)
    except ValueError as not_iso:
        parsed = _slashed(ts)
        if parsed is None:
            raise ValueError(
                f"expected time stamps in column {ts.name!r} in one clear format, found text such as {ts.iloc[0]!r}: "
                "write them as 2016-09-08T00:00:00Z"
            ) from not_iso
        return parsed


def _epoch(count: pd.Series) -> pd.Series:
    """Stamps from seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.

    Numbers that would lie before 1990 or after 2099 may be dates: 201609080930 or 20160908093000.
    """
    factor = next((factor for least, factor in _EPOCH_NS if count.iloc[0] >= least), None)
    low, high = (0, 0) if factor is None else (int(count.min()) * factor, int(count.max()) * factor)
    if low >= _FIRST_NS and high <= _LAST_NS and factor is not None:
        return pd.Series(pd.DatetimeIndex(count.to_numpy() * factor, tz="UTC"), name=count.name)
    for length, pattern in ((12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S")):
        if 19 * 10 ** (length - 2) <= count.min() and count.max() < 21 * 10 ** (length - 2):
            return pd.to_datetime(count.astype("str"), format=pattern)
    raise ValueError(
        f"expected time stamps in column {count.name!r}, found the number {count.iloc[0]}: "
        "write them as 2016-09-08T00:00:00Z"
    )


def _naive_text(ts: pd.Series) -> bool:
    """Whether stamps name no zone: neither Z, UTC nor an offset at their end. ValueError where only some do."""
    text = ts.astype("str").str.strip()
    examples = text[~text.str.len().duplicated()]
    named = examples.str.contains(r"(?:Z|UTC|:\d{2}(?:\.\d+)?\s*[+-]\d{2}(?::?\d{2})?)$", regex=True)
    if named.nunique() > 1:
        raise ValueError(
            f"expected time stamps with a zone, or all without, found {examples.iloc[0]!r} and "
            f"{examples[named != named.iloc[0]].iloc[0]!r} in column {ts.name!r}: write them as 2016-09-08T00:00:00Z"
        )
    return not named.iloc[0]


def _slashed(ts: pd.Series) -> pd.Series | None:
    """Stamps such as 09/28/2016 14:30, taken only if exactly one order of day and month fits every row."""
    orders = (f"%{a}/%{b}/%Y" for a, b in ("md", "dm"))
    text = ts.str.replace(r"[.-]", "/", n=2, regex=True)
    fits = []
    for order in orders:
        for clock in ("%H:%M", "%H:%M:%S", "%I:%M %p", "%I:%M:%S %p"):
            try:
                fits.append(pd.to_datetime(text, format=f"{order} {clock}"))
            except ValueError:
                continue
    return fits[0] if len(fits) == 1 else None

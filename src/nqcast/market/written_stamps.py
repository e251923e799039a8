"""Time stamps as vendors write them: epochs, ISO text, days and months in either order, zones behind them.

Text that ISO 8601 does not cover is taken apart into date, clock and zone, each of which a file holds few of: they are
read once each. A row that holds no stamp becomes NaT, for the caller to judge; a stamp of two meanings is an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pandas as pd

from nqcast.market.tables import REORDERED, ZONES

_EPOCH_NS = ((10**17, 1), (10**14, 10**3), (10**11, 10**6), (10**8, 10**9))
_FIRST_NS, _LAST_NS, _END_NS = (pd.Timestamp(year).as_unit("ns").value for year in ("1990", "2099", "2262"))
_TICKS = (62, 63, 64, 65, 66)  # 1966 to 2099 in ticks of .NET (100 ns since the year 1), in 1e16
_EXCEL_DAYS = (32_874, 72_686)  # 1990 and 2099 in days since 1899-12-30
_CURE = "write them as 2016-09-08T00:00:00Z"

_WRITTEN = (
    r"^\s*(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,?\s+)?"
    r"(\d{8}|\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}|\d{1,2}[- ]?[A-Za-z]{3,9}[-, ]+\d{2,4}|[A-Za-z]{3,9}\s+\d{1,2},?\s+\d{4})"
    r"(?:(?:[Tt,;]|\s)*(\d{1,2}:\d{2}(?::\d{2})?|\d{1,6})(?:[.,](\d{1,9}))?\s*(?:([AaPp])(?:\.?[Mm]\.?)?(?![A-Za-z]))?)?"
    r"\s*[(\[]?((?:UTC|GMT)?\s*[+-]\d{1,2}(?::?\d{2})?(?:\s+UTC)?"
    r"|[A-Za-z_]+(?:\s[A-Za-z]+){0,2}(?:\d[A-Za-z]+)?(?:/[A-Za-z_]+)*(?:[+-]\d+)?)?"
    r"(?:\[[A-Za-z_/]+)?[)\]]?\s*$"
)
_DATES = (
    *("%Y%m%d", "%Y-%m-%d", "%m-%d-%Y", "%d-%m-%Y", "%y-%m-%d", "%m-%d-%y", "%d-%m-%y", "%d-%b-%Y", "%d-%B-%Y"),
    *("%d-%b-%y", "%b-%d-%Y", "%B-%d-%Y"),
)
_WESTWARD = str.maketrans("+-", "-+")  # as Etc zones count
_NAMES_ZONE = r"(?:Z|UTC|:\d{2}(?:\.\d+)?\s*[+-]\d{2}(?::?\d{2})?)$"


def parsed_stamps(ts: pd.Series) -> pd.Series:
    """Stamps as datetime64: numbers are epochs (UTC; the unit by size), text is parsed, naive text stays naive.

    NaT where a row holds nothing that could be a stamp. ValueError for what can be read in no way, or in two.
    """
    if not len(ts):
        return ts
    if pd.api.types.is_datetime64_any_dtype(ts):
        return _in_nanoseconds(ts)
    numeric = pd.to_numeric(ts, errors="coerce") if not pd.api.types.is_numeric_dtype(ts) else ts
    if numeric.notna().mean() > 0.5:
        numeric.attrs = ts.attrs
        return _numbered(numeric)
    named = _few(ts).str.contains(_NAMES_ZONE, regex=True)
    if named.nunique() == 1:
        stamps = pd.to_datetime(ts, format="ISO8601", utc=True, errors="coerce")
        if stamps.notna().equals(ts.notna()):
            if behind := re.search(r"\d([+-]\d\d:?\d\d)$", str(ts.iloc[0])):
                stamps.attrs = {**ts.attrs, "zone": _zone(behind[1])}
            return _in_nanoseconds(stamps if named.iloc[0] else stamps.dt.tz_localize(None))
    return _written(ts.astype("str"))


def _in_nanoseconds(stamps: pd.Series) -> pd.Series:
    """The stamps in ns, UTC or naive; a year that ns do not hold, such as 9999, is the first or last that they do."""
    stamps = stamps if stamps.dt.tz is None else stamps.dt.tz_convert("UTC")
    if stamps.dt.unit == "ns":
        return stamps
    first, last = (pd.Timestamp(year, tz=stamps.dt.tz) for year in ("1678", "2262"))
    return stamps.mask(stamps < first, first).mask(stamps > last, last).dt.as_unit("ns")


def require_both_halves(naive: pd.Series) -> None:
    """ValueError where AM and PM are lost: no clock is before 01:00 or after 12:59, and 01:00 comes behind 12:59."""
    known = naive.notna().to_numpy()
    day, hour = np.divmod(naive[known].to_numpy("datetime64[h]").astype(np.int64), 24)
    lost = np.flatnonzero((np.diff(day) == 0) & (np.abs(np.diff(hour)) == 11))
    if len(lost) and hour.min() >= 1 and hour.max() <= 12:
        row = int(np.flatnonzero(known)[lost[0] + 1])
        after, before, place = naive.iloc[row], naive.iloc[row - 1], place_of(row, naive.attrs)
        raise ValueError(
            f"expected clocks of 24 hours, or with AM and PM, found none after 12:59, and {after} behind {before} in "
            f"{place}: export column {naive.name!r} anew with its AM and PM"
        )


def _few(ts: pd.Series) -> pd.Series:
    """The first text of each length: which forms there are is seen in a few of them."""
    text = ts.astype("str").str.strip()
    return text[~text.str.len().duplicated()]


def _numbered(count: pd.Series) -> pd.Series:
    """Stamps from seconds to nanoseconds since 1970, each row by its own size; from Excel's days; from 201609080930."""
    value = count.to_numpy(dtype=np.float64, na_value=np.nan)
    known = np.isfinite(value)
    whole = pd.Series(np.where(known, count.where(known, 0), 0)).astype("int64").to_numpy()
    if known.any() and np.isin(np.abs(whole[known]) // 10**16, _TICKS).mean() > 0.5:  # of .NET
        whole = (whole - 621_355_968 * 10**9) * 100
    factor = np.select([np.abs(whole) >= least for least, _ in _EPOCH_NS], [by for _, by in _EPOCH_NS], 0)
    stamp = np.where(np.abs(whole) < _LAST_NS // np.maximum(factor, 1) + 1, whole * factor, 0)
    possible = known & (stamp >= _FIRST_NS) & (stamp <= _LAST_NS)
    if possible.sum() > 0.5 * known.sum():
        by = int(np.median(factor[possible]))  # a number of no such size, 0 say, counts in the unit of the others
        end = _END_NS // by
        stamp = np.where(possible, stamp, np.where(known, whole.clip(-end, end) * by, np.iinfo(np.int64).min))
        return pd.Series(pd.DatetimeIndex(stamp, tz="UTC"), index=count.index, name=count.name)
    if (
        np.all((value[known] > _EXCEL_DAYS[0]) & (value[known] < _EXCEL_DAYS[1]))
        and (value % 1 != 0)[known].mean() > 0.9
    ):
        days = pd.to_datetime(value, unit="D", origin="1899-12-30").round("s")
        return pd.Series(days, index=count.index, name=count.name)
    text = pd.Series(whole, count.index, name=count.name).astype("str").where(known)
    text.attrs = count.attrs
    return _written(text)


def _written(text: pd.Series) -> pd.Series:
    """Stamps from dates, clocks and zones in any of the usual forms."""
    for written, read in REORDERED.items():
        if text.dropna().head(1).str.match(written).any():
            text = text.str.replace(written, read, regex=True)
    parts = text.str.extract(_WRITTEN)
    holds = parts[0].notna().to_numpy()
    if holds.mean() <= 0.5:
        raise _unclear(text, int(np.argmax(~holds & text.notna().to_numpy())))
    if parts[1].isna().all() and parts[0].duplicated().any():
        raise ValueError(
            f"expected time stamps with a time of day in column {text.name!r}, found dates alone, such as "
            f"{text.iloc[0]!r}, several rows of one date: bring the column of times too"
        )
    days = _each(parts[0], lambda dates: _days(dates, text))
    clocks = parts[1].fillna("0:00") + "." + parts[2].fillna("0") + parts[3].fillna("").str.lower()
    width = 6 if parts[1].dropna().str.fullmatch(r"\d{5,6}").any() else 4
    times = _each(clocks, lambda each: [_clock(one, width) for one in each])
    stamp = pd.Series(days + times, index=text.index)
    stamp = stamp.where(holds & (times >= 0), np.iinfo(np.int64).min).astype("datetime64[ns]")
    stamp.name = text.name
    zones = parts[4].where(holds).str.upper().str.replace(" ", "")
    if not zones.notna().any():
        return stamp
    if (zones.isna() & holds).any():
        with_, without = (int(np.flatnonzero(mask)[0]) for mask in (zones.notna(), zones.isna() & holds))
        raise ValueError(
            f"expected time stamps with a zone, or all without, found {text.iloc[with_]!r} and {text.iloc[without]!r} "
            f"({place_of(without, text.attrs)}) in column {text.name!r}: {_CURE}"
        )
    return _at_zones(stamp, parts[4].where(holds).str.strip(), text)


def _each(column: pd.Series, read: Callable[[list[str]], list[int]]) -> np.ndarray:
    """What `read` makes of the distinct texts of a column, by row; 0 where there is none."""
    code, texts = pd.factorize(column)
    values = np.append(np.asarray(read(list(texts)), dtype=np.int64), 0)
    return values[code]


def _days(dates: list[str], text: pd.Series) -> list[int]:
    """Nanoseconds of each date; ValueError where several orders of its parts fit all of them, or none does.

    An order that spreads them over a hundred times the days of another, as one with day and year exchanged, is none.
    """
    plain = pd.Series([re.sub(r"(?<=\d)(?=[A-Za-z])|[/., ]+", "-", date) for date in dates])
    parsed = [_in_nanoseconds(pd.to_datetime(plain, format=order, errors="coerce")) for order in _DATES]
    whole = [days for days in parsed if days.notna().all()]
    spans = [(days.max() - days.min()).days for days in whole]
    possible = [days for days, span in zip(whole, spans, strict=True) if span <= 100 * max(min(spans), 1)]
    others = [days for days in possible if not days.equals(possible[0])]
    if possible and not others:
        return possible[0].astype("int64").tolist()
    most = max(parsed, key=lambda days: days.notna().sum())
    row = int((others[0] != possible[0] if others else most.isna()).to_numpy().argmax())
    meanings = " or ".join(f"{days[row]:%Y-%m-%d}" for days in (*possible[:1], *others[:1]))
    where = int(text.str.contains(dates[row], regex=False).to_numpy().argmax())
    raise _unclear(text, where, f", which may be {meanings}" if others else "")


def _clock(text: str, width: int) -> int:
    """Nanoseconds of the day of 17:00.0, 9:30:00.5pm, 93000.0 (width 6) or 930.0 (width 4); -1 of what is no time."""
    clock, _, rest = text.partition(".")
    fraction, half = rest.rstrip("ap"), rest[-1:] if rest[-1:] in ("a", "p") else ""
    parts = clock.split(":") if ":" in clock else [(clock.zfill(width))[k : k + 2] for k in range(0, width, 2)]
    hour, minute, second = (int(part) for part in (*parts, "0")[:3])
    if half:
        hour = hour % 12 + 12 * (half == "p")
    if (hour, minute, second) > (24, 0, 0) or minute > 59 or second > 59:
        return -1
    return ((hour * 60 + minute) * 60 + second) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])


def _at_zones(stamp: pd.Series, zones: pd.Series, text: pd.Series) -> pd.Series:
    """Instants in UTC of naive stamps with the names of their zones; NaT where a zone makes one impossible."""
    instants = pd.Series(pd.DatetimeIndex([pd.NaT] * len(stamp)).tz_localize("UTC").as_unit("ns"), index=stamp.index)
    for name in zones.dropna().unique():
        rows = (zones == name).to_numpy()
        zone = _zone(name)
        if zone is None and rows.mean() > 0.5:
            raise ValueError(
                f"expected the name of a time zone behind the stamps of column {text.name!r}, found {name!r} in "
                f"{place_of(int(rows.argmax()), text.attrs)}: write them in UTC, or leave it out and set "
                "ingest.naive_timezone"
            )
        if zone is None:  # a word in a few rows: no stamp
            continue
        local = stamp[rows].dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        instants[rows] = local.dt.tz_convert("UTC")
        instants.attrs = {**text.attrs, "zone": str(zone)}
    instants.name = text.name
    return instants


def _zone(name: str) -> str | ZoneInfo | None:
    """The zone of UTC, GMT+0100, -05:00, EST or US/Central; None for another text."""
    if found := re.fullmatch(r"(?:UTC|GMT)?\s*([+-])(\d{1,2}):?(\d{2})?(?:\s+UTC)?", name, flags=re.IGNORECASE):
        east = f"{found[1]}{int(found[2]):02d}:{found[3] or '00'}"
        return east if int(found[3] or 0) else f"Etc/GMT{east[0].translate(_WESTWARD)}{int(found[2])}"
    if name.upper() in ZONES:
        return ZONES[name.upper()]
    known = _zone_names().get(name.lower())
    return ZoneInfo(known) if known else None


@cache
def _zone_names() -> dict[str, str]:
    """The library's names by their small letters; it looks through its files for them."""
    return {name.lower(): name for name in available_timezones()}


def _unclear(text: pd.Series, row: int, meanings: str = "") -> ValueError:
    return ValueError(
        f"expected time stamps in column {text.name!r} in one clear format, found text such as {text.iloc[row]!r} in "
        f"{place_of(row, text.attrs)}{meanings}: {_CURE}"
    )


def place_of(row: int, attrs: Mapping[Any, Any]) -> str:
    """Where a row of a table stands: the line of its file, header and all, or the row of another table."""
    return f"line {row + attrs['first_line']}" if "first_line" in attrs else f"row {row + 1}"


def readable(texts: Iterable[str]) -> bool:
    """Whether all of a few texts hold a stamp, in whatever form."""
    return all(re.match(_WRITTEN, str(text)) or re.fullmatch(r"\d{10,19}(?:\.0)?", str(text)) for text in texts)

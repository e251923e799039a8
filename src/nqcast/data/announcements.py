"""Announcements whose time is known long before: does a forecast's horizon hold one?

`announcements.csv` lists the scheduled decisions of the Federal Open Market Committee (fomc), the Employment Situation
(employment) and the Consumer Price Index (cpi) of the Bureau of Labor Statistics, with the time in New York. Dates are
those of the agencies' schedules and archives (docs/announcements.md); a release that was moved stands on its new day.
A file of the user's own with the same columns is one more kind, named by its path.
"""

import logging
import warnings
from collections.abc import Sequence
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd

from nqcast.constants import MINUTE_NS
from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import is_file
from nqcast.horizons import Horizon, horizons, horizons_of
from nqcast.spacing import Spacing

logger = logging.getLogger(__name__)

_LIST = "announcements.csv"
_NEW_YORK = "America/New_York"


@cache
def announcements() -> pd.DataFrame:
    """All listed announcements in time order: ts (UTC), kind."""
    with resources.files("nqcast.data").joinpath(_LIST).open(encoding="utf-8") as file:
        return _dated(pd.read_csv(file, dtype=str), _LIST)


def own_announcements(file: str) -> pd.DataFrame:
    """The events of a user's file in time order: ts (UTC), kind.

    The file has a date and a time in New York, between commas or semicolons; its kind is not read.

    Raises:
        ValueError: no such file, a column is missing, a row has no date or time, or there is none.
    """
    try:
        with Path(file).open(encoding="utf-8-sig") as opened:
            separator = ";" if ";" in opened.readline() else ","
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pd.errors.ParserWarning)  # a field more than the header names is not read
            table = pd.read_csv(file, dtype=str, encoding="utf-8-sig", sep=separator, index_col=False)
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"expected a CSV file of dated events, found none at {file} ({error}): put it there, or correct "
            "scale.announcements"
        ) from error
    table.columns = table.columns.str.strip().str.lower()
    if not {"date", "time"} <= set(table.columns) or table.empty:
        raise ValueError(
            f"expected the columns date and time, in New York, and a row for each event in {file}, found the columns "
            f"{', '.join(table.columns)} and {len(table)} rows: write it as nqcast/data/announcements.csv is"
        )
    return _dated(table.assign(kind=file), file)


def _dated(table: pd.DataFrame, file: str) -> pd.DataFrame:
    text = table["date"].fillna("no date").str.strip() + " " + table["time"].fillna("no time").str.strip()
    local = pd.to_datetime(text, format="%Y-%m-%d %H:%M", errors="coerce")
    ts = local.dt.tz_localize(_NEW_YORK, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC")
    if ts.hasnans:
        row = int(ts.isna().argmax())
        raise ValueError(
            f"expected dates such as 2026-03-18 and times such as 14:00 in {file}, found {text.iloc[row]!r} in its row "
            f"{row + 2}: correct it; the clock is that of New York"
        )
    return pd.DataFrame({"ts": ts, "kind": table["kind"]}).sort_values("ts", kind="stable", ignore_index=True)


def announcements_ahead(features: pd.DataFrame, kinds: Sequence[str]) -> np.ndarray:
    """1 where a horizon holds an announcement, else 0, (N, kinds · H): all horizons of the first kind, then the next.

    The horizons are those of the table's targets. One begins with the end of the bar that starts at ts (UTC), that
    instant included, and ends before its last: what is announced there moves the next bar. Bars outside of the list's
    years get 0 and a warning.
    """
    issued_N = _ends(features["ts"])
    lengths = [_minutes_ahead(features, one) for one in horizons(horizons_of(features.columns))]
    columns: list[np.ndarray] = []
    for kind in kinds:
        times_A = utc_nanoseconds(_of_kind(kind))
        outside = int(((issued_N < times_A[0]) | (issued_N > times_A[-1])).sum())
        _warn_outside(outside, *(pd.Timestamp(int(time)).date() for time in (times_A[0], times_A[-1])), kind)
        before_N = np.searchsorted(times_A, issued_N)
        for minutes in lengths:
            columns.append(np.searchsorted(times_A, issued_N + minutes * MINUTE_NS) > before_N)
    return np.stack(columns, axis=1).astype(np.float64)


def _minutes_ahead(features: pd.DataFrame, horizon: Horizon) -> np.ndarray:
    """How long each row's horizon lasts (N,), as the calendar says before it begins; holidays are not looked at."""
    if horizon.by_clock:
        return np.full(len(features), horizon.minutes)
    if horizon.to_close:
        return features["bars_to_close"].to_numpy() * Spacing.of(features["ts"]).minutes
    weekday = np.minimum(features["session"].dt.day_of_week.to_numpy(), 4)
    return 1440 * (horizon.sessions + 2 * ((weekday + horizon.sessions) // 5)).astype(np.int64)


def since_and_until(ts: pd.Series, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Hours (N,) from the last announcement to each bar's end, and from there to the next; infinite without one."""
    issued_N = _ends(ts)
    times_A = utc_nanoseconds(_of_kind(kind))
    after_N = np.searchsorted(times_A, issued_N)
    hour, padded = 60.0 * MINUTE_NS, np.concatenate([[-np.inf], times_A.astype(np.float64), [np.inf]])
    return (issued_N - padded[after_N]) / hour, (padded[after_N + 1] - issued_N) / hour


def _ends(ts: pd.Series) -> np.ndarray:
    """End of each bar of a table (N,), nanoseconds: when its forecast is issued."""
    return utc_nanoseconds(ts) + Spacing.of(ts).minutes * MINUTE_NS


def _of_kind(kind: str) -> pd.Series:
    table = own_announcements(kind) if is_file(kind) else announcements()
    return table.loc[table["kind"] == kind, "ts"]


@cache
def _warn_outside(bars: int, first: date, last: date, kind: str) -> None:
    """Warn of bars outside of the list, once of the same ones: several models of a run ask for them."""
    if bars:
        logger.warning(
            "%d bars lie outside of the listed %s announcements, %s to %s, and count as having none ahead; add rows to "
            "%s or leave scale.announcements out",
            *(bars, kind, first, last, kind if is_file(kind) else f"nqcast/data/{_LIST}"),
        )

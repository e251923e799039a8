"""Schemas of raw and finished bars, and the check that a vendor's frame can be used at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, get_args

import numpy as np
import pandas as pd
import pandera.pandas as pa

from nqcast.constants import MINUTE_NS
from nqcast.fields import closest
from nqcast.market.calendar import instants, nanoseconds
from nqcast.market.config import SOURCE_SPACINGS, IngestConfig, zone_and_hours
from nqcast.spacing import BarMinutes

PRICES = ("open", "high", "low", "close")
UTC_STAMP = "datetime64[ns, UTC]"

_MOSTLY, _OFTEN = 0.3, 0.02  # of the stamps; random seconds lie in the last one of a minute in a sixtieth

_POSITIVE = pa.Check.gt(0)

BARS = pa.DataFrameSchema(
    {
        "ts": pa.Column(UTC_STAMP, unique=True),
        **{name: pa.Column(float, _POSITIVE) for name in (*PRICES, "raw_close")},
        "volume": pa.Column("int64", pa.Check.ge(0)),
        "traded": pa.Column(bool),
        "halt": pa.Column(bool),
        "session": pa.Column("datetime64[ns]"),
        "gap_minutes": pa.Column(float, pa.Check.ge(0)),
        "contract": pa.Column(pd.StringDtype(na_value=np.nan)),
        "realized_variance": pa.Column(float, pa.Check.ge(0)),
        "unadjusted": pa.Column(bool),
        "halts": pa.Column(bool),
        "bars_to_close": pa.Column("int64", pa.Check.ge(0)),
        "long_break_in": pa.Column("int64", pa.Check.ge(0), required=False),
    },
    checks=[
        pa.Check(lambda bars: (bars["high"] >= np.maximum(bars["open"], bars["close"])).all(), name="high is highest"),
        pa.Check(lambda bars: (bars["low"] <= np.minimum(bars["open"], bars["close"])).all(), name="low is lowest"),
        pa.Check(lambda bars: bars["ts"].is_monotonic_increasing, name="in order of time"),
    ],
    strict=True,
)
"""Bars on the complete grid of each session."""


def missing_column_error(name: str, columns: Iterable[str], cure: str) -> ValueError:
    """The error for a column that is not there, naming the closest one that is."""
    present = [str(column) for column in columns]
    near = closest(name, present, alike=0.6)
    hint = f" (closest: {near!r})" if near else ""
    return ValueError(f"expected a column {name!r}, found {present}{hint}: {cure}")


def check_raw_bars(frame: pd.DataFrame, config: IngestConfig) -> pd.DataFrame:
    """What `as_raw_bars` gives, with ts in UTC (datetime64[ns]), float64 prices, and volume where it is asked for.

    Rows are neither judged nor dropped here; a stamp that its zone makes ambiguous or impossible becomes NaT.
    Raises ValueError for no rows, no volume where it is asked for, stamps without a zone.
    """
    if not len(frame):
        raise ValueError("expected bars, found no rows: check the file or the query that made it")
    if config.volume and "volume" not in frame:
        cure = "rename the column that holds it, or set volume to false (features too) if the source has none"
        raise missing_column_error("volume", frame.attrs.get("columns") or frame.columns, cure)
    checked = {"ts": _utc(frame["ts"], config.naive_timezone)}
    for name in (*PRICES, *(("volume",) if config.volume else ())):
        single = frame[name].dtype == np.float32 and name in PRICES
        checked[name] = _on_tick(frame[name], config.tick) if single else frame[name].astype("float64")
    if "contract" in frame and not frame["contract"].isna().all():
        checked["contract"] = frame["contract"]
    raw = pd.DataFrame(checked, copy=False).reset_index(drop=True)
    raw.attrs = {**frame.attrs, "naive": frame["ts"].dt.tz is None}
    return raw


class Stamping(NamedTuple):
    """What the stamps of a series of bars mark: how many minutes a bar lasts, and which end of it is stamped.

    Where many stamps lie in the last second of a minute, 17:00:59, they mark the end of a bar whatever the parameter
    says, and the others what it says.
    """

    minutes: int
    at_end: bool = False
    in_last_second: bool = False

    @classmethod
    def of(cls, ts: pd.Series, at_end: bool) -> Stamping:
        """What these stamps mark, of which there are two or more."""
        last = _in_last_second(ts)
        often = bool(last.mean() > _OFTEN)
        between = np.flatnonzero((nanoseconds(ts) % MINUTE_NS != 0) & ts.notna().to_numpy() & ~(last & often))
        if len(between) > _MOSTLY * ts.notna().sum() and np.median(np.diff(instants(ts))) > MINUTE_NS / 2:
            raise ValueError(
                f"expected time stamps at full minutes, or all in a minute's last second, found {len(between)} of "
                f"{len(ts)} between them, such as {ts.iloc[between[0]]}: export bars with the start of their minute"
            )
        return cls(infer_spacing(ts.dt.ceil("min") if often else ts), at_end, often)

    def starts(self, ts: pd.Series) -> pd.Series:
        """The starts of bars with these stamps."""
        bar = pd.Timedelta(minutes=self.minutes)
        start = ts - bar if self.at_end else ts
        return start.mask(_in_last_second(ts), ts.dt.ceil("min") - bar) if self.in_last_second else start


def _in_last_second(ts: pd.Series) -> np.ndarray:
    return nanoseconds(ts) % MINUTE_NS >= MINUTE_NS // 60 * 59


def bar_starts(ts: pd.Series, end_stamped: bool) -> tuple[pd.Series, int]:
    """Starts of bars from their stamps, and the spacing in minutes."""
    found = Stamping.of(ts, end_stamped)
    return found.starts(ts), found.minutes


def infer_spacing(ts: pd.Series) -> int:
    """Bar spacing in minutes, 1 or 5: the commonest distance of neighbouring stamps. ValueError for any other."""
    stamps = instants(ts)
    steps = np.diff(stamps)
    if not len(steps):
        raise ValueError(f"expected at least two bars, found {len(stamps)} distinct time stamp(s): bring more bars")
    counts = pd.Series(steps).value_counts()
    step = int(counts.index[0])
    if step not in {minutes * MINUTE_NS for minutes in SOURCE_SPACINGS}:
        coarse = step // MINUTE_NS if step % MINUTE_NS == 0 else 0
        made = f", of which bar_minutes={coarse} makes such bars" if coarse in get_args(BarMinutes) else ""
        raise ValueError(
            f"expected bars every {' or '.join(map(str, SOURCE_SPACINGS))} minutes, found one every {_duration(step)} "
            f"({counts.iloc[0]} of {len(steps)} neighbours): export 1-minute bars{made}"
        )
    return step // MINUTE_NS


def _duration(nanoseconds_: int) -> str:
    minutes = nanoseconds_ / MINUTE_NS
    return f"{minutes:g} minutes" if minutes >= 1 else f"{minutes * 60:g} seconds"


def _on_tick(column: pd.Series, tick: float) -> pd.Series:
    """float32 prices in float64: the multiples of the tick that they stand for, where they stand for one."""
    price = column.astype("float64")
    ticks = ((price / tick).round() * tick).round(10)
    return ticks.where(ticks.astype("float32") == column, price)


def _utc(ts: pd.Series, zone: str | None) -> pd.Series:
    if ts.dt.tz is not None:
        return ts.dt.tz_convert("UTC").dt.as_unit("ns")
    if zone is None:
        infer_spacing(ts)  # bars of days need no zone to be refused
        raise ValueError(
            f"expected time stamps with a zone, found {ts.iloc[0]} without one: set the ingest parameter "
            "naive_timezone to the zone they are in (UTC, America/Chicago, ...)"
        )
    named, hours = zone_and_hours(zone)
    local = ts - pd.Timedelta(hours=hours)
    return local.dt.tz_localize(named, ambiguous="NaT", nonexistent="NaT").dt.tz_convert("UTC").dt.as_unit("ns")

"""Weeks cut from real bars, and hours of their days, are as sound as the whole file."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.market.deceiving import hours

from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import table
from nqcast.market.vendor import read_bars

FILES = {
    "NQ": "nq_1m_2008-12_2021-12",
    "SPXUSD": "spxusd_1m_2018_2019",
    "XAUUSD": "xauusd_1m_2018_2019",
    "EURUSD": "eurusd_1m_2018_2019",
}
HOURS = [("09:30", "15:00"), ("09:30", "16:00"), ("08:30", "15:00"), ("07:00", "16:00"), ("17:00", "08:30")]
EARLY = [("07:30", "12:00"), ("07:30", "16:00")]  # an hour late they begin at 08:30
PIT = ("07:20", "12:30")


@cache
def bars(path: Path) -> pd.DataFrame:
    return read_bars(path)


def weeks(raw: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """One to four weeks; whole weeks, since a few bars of a night say too little."""
    length = pd.Timedelta(weeks=int(rng.integers(1, 5)))
    first, last = raw["ts"].iloc[0], raw["ts"].iloc[-1]
    begin = (first + (last - first - length) * rng.random()).normalize()
    return raw[raw["ts"].between(begin, begin + length)].reset_index(drop=True)


@pytest.mark.slow
@pytest.mark.parametrize("symbol", FILES)
def test_weeks_and_hours_of_real_bars_are_not_refused(symbol: str, real_data: Path) -> None:
    raw, rng, row = bars(real_data / f"{FILES[symbol]}.parquet"), np.random.default_rng(41), table()[symbol]
    config = IngestConfig(instrument=row, tick=row.tick, volume=False)
    for begin, end in [("00:00", "24:00")] * 4 + HOURS:
        cut = hours(weeks(raw, rng), begin, end)
        assert len(build_bars(cut, config).bars), (cut["ts"].iloc[0], begin, end)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("symbol", "begin", "end"), [("NQ", *each) for each in (*HOURS[:4], *EARLY)] + [("XAUUSD", *PIT)]
)
def test_hours_of_real_bars_in_a_wrong_zone_are_refused(symbol: str, begin: str, end: str, real_data: Path) -> None:
    raw, rng, row = bars(real_data / f"{FILES[symbol]}.parquet"), np.random.default_rng(43), table()[symbol]
    config = IngestConfig(instrument=row, tick=row.tick, volume=False, naive_timezone="America/Chicago")
    found = 0
    for _ in range(3):
        cut = hours(weeks(raw, rng), begin, end)
        try:
            build_bars(cut.assign(ts=cut["ts"].dt.tz_convert("America/New_York").dt.tz_localize(None)), config)
        except ValueError as error:
            found += "time zone: " in str(error)
    assert found >= 2


@pytest.mark.slow
def test_weeks_of_a_thin_year_stamped_at_their_ends_are_refused(real_data: Path) -> None:
    """The closing minute did not trade every day then, so that sessions in a row tell it less often."""
    raw, rng = bars(real_data / f"{FILES['NQ']}.parquet"), np.random.default_rng(47)
    thin, found = raw[raw["ts"] < pd.Timestamp("2012-01-01", tz="UTC")], 0
    for _ in range(6):
        cut = weeks(thin, rng)
        try:
            build_bars(cut.assign(ts=cut["ts"] + pd.Timedelta(minutes=1)), IngestConfig(volume=False))
        except ValueError as error:
            found += "bar ends: " in str(error)
    assert found >= 4


@pytest.mark.slow
@pytest.mark.parametrize(("begin", "end"), [("08:30", "12:30"), ("09:30", "12:30")])
def test_a_season_of_mornings_tells_its_zone(begin: str, end: str, real_data: Path) -> None:
    """Of a few weeks so few hours do not."""
    raw = bars(real_data / f"{FILES['NQ']}.parquet")
    cut = hours(raw[raw["ts"].between("2014-01-06T00:00Z", "2014-06-06T00:00Z")].reset_index(drop=True), begin, end)
    config = IngestConfig(volume=False, naive_timezone="America/Chicago")
    right, late = (
        cut.assign(ts=cut["ts"].dt.tz_convert(zone).dt.tz_localize(None))
        for zone in ("America/Chicago", "America/New_York")
    )
    assert len(build_bars(right, config).bars)
    with pytest.raises(ValueError, match=r"time zone: .*fit America/New_York"):
        build_bars(late, config)

"""Files whose every row is a valid bar and which are wrong all the same."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.market.deceiving import market

from nqcast.market.checks import series as doubts
from nqcast.market.checks.rows import AT_CLOSE
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import instrument
from nqcast.market.schema import PRICES

CONFIG = IngestConfig()
OPEN_HANDED = IngestConfig(max_quarantined_share=0.5)


@pytest.fixture(scope="module")
def fortnight(make_bars) -> pd.DataFrame:
    return make_bars(date(2016, 9, 5), date(2016, 9, 23))


def planted(raw: pd.DataFrame, start: str, end: str) -> np.ndarray:
    return raw["ts"].between(*pd.to_datetime([start, end], utc=True)).to_numpy()


def at_another_level(raw: pd.DataFrame, rows: np.ndarray, factor: float = 0.998, thin: int = 50) -> pd.DataFrame:
    changed = raw.copy()
    for name in PRICES:
        changed.loc[rows, name] = np.round(changed.loc[rows, name] * factor * 4) / 4
    changed.loc[rows, "volume"] = np.maximum(changed.loc[rows, "volume"] // thin, 1)
    return changed


@pytest.mark.parametrize("contract", ["NQZ6", None], ids=["one contract", "no contract column"])
def test_a_stretch_of_another_contract_is_quarantined_to_the_row(fortnight: pd.DataFrame, contract: str | None) -> None:
    raw = fortnight if contract else fortnight.drop(columns="contract")
    rows = planted(raw, "2016-09-14 03:00", "2016-09-15 17:00")
    found = build_bars(at_another_level(raw, rows), OPEN_HANDED)
    assert set(found.quarantine["reason"]) == {doubts.OTHER_CONTRACT}
    assert found.quarantine["ts"].tolist() == raw.loc[rows, "ts"].tolist()
    pd.testing.assert_frame_equal(found.bars, build_bars(raw[~rows], CONFIG).bars)


def test_more_than_the_threshold_of_another_contract_stops_the_run(fortnight: pd.DataFrame) -> None:
    raw = at_another_level(fortnight, planted(fortnight, "2016-09-14 03:00", "2016-09-15 17:00"))
    with pytest.raises(ValueError, match=r"at most 1\.0% of the rows.*another contract's prices"):
        build_bars(raw, CONFIG)


@pytest.mark.parametrize("change", ["a level that is traded in full", "thin trade without a level", "a level for good"])
def test_moves_of_the_market_are_not_taken_for_another_contract(fortnight: pd.DataFrame, change: str) -> None:
    rows = planted(fortnight, "2016-09-14 03:00", "2016-09-15 17:00")
    raw = {
        "a level that is traded in full": at_another_level(fortnight, rows, thin=1),
        "thin trade without a level": at_another_level(fortnight, rows, factor=1.0),
        "a level for good": at_another_level(
            fortnight, planted(fortnight, "2016-09-14 03:00", "2016-10-01 00:00"), thin=1
        ),
    }[change]
    assert len(build_bars(raw, IngestConfig(doubtful="warn")).quarantine) == 0


def test_stale_bars_are_quarantined_from_the_thirtieth_repetition_on(week: pd.DataFrame) -> None:
    raw = week.copy()
    columns = [*PRICES, "volume"]
    raw.loc[1001:1040, columns] = raw.loc[1000, columns].to_numpy()
    raw.loc[2001:2020, columns] = raw.loc[2000, columns].to_numpy()
    found = build_bars(raw, CONFIG)
    assert set(found.quarantine["reason"]) == {doubts.STALE}
    assert found.quarantine["ts"].tolist() == raw.loc[1030:1040, "ts"].tolist()


def test_flat_bars_without_volume_are_a_vendors_fillers(week: pd.DataFrame) -> None:
    filler = np.sort(np.random.default_rng(0).choice(np.arange(500, 900), 200, replace=False))
    raw = week.copy()
    for name in PRICES:
        raw.loc[filler, name] = raw.loc[filler, "open"]
    raw.loc[filler, "volume"] = 0
    found = build_bars(raw, CONFIG)
    assert (found.report["zero_volume_dropped"], len(found.quarantine)) == (200, 0)
    pd.testing.assert_frame_equal(found.bars, build_bars(week.drop(index=filler), CONFIG).bars)
    kept = IngestConfig(zero_volume="quarantine", max_quarantined_share=0.1)
    assert build_bars(raw, kept).report["quarantined_by_reason"] == {"volume zero": 200}


def test_a_move_without_volume_is_quarantined_and_a_dead_column_is_an_error(week: pd.DataFrame) -> None:
    raw = week.copy()
    row = int(np.flatnonzero(raw["high"] > raw["low"])[50])
    raw.loc[row, "volume"] = 0
    assert build_bars(raw, CONFIG).report["quarantined_by_reason"] == {"prices that move without volume": 1}
    with pytest.raises(ValueError, match=r"found 0 in every row, or nothing: set features\.volume=false"):
        build_bars(week.assign(volume=0), CONFIG)


@pytest.mark.parametrize("spacing", [1, 5])
def test_stamps_of_bar_ends_stop_the_run_and_one_parameter_sets_them_right(make_bars, spacing: int) -> None:
    raw = make_bars(date(2016, 9, 12), date(2016, 9, 23), missing=0.0)
    if spacing == 5:
        slots = raw.groupby(raw["ts"].dt.floor("5min"))
        raw = slots.agg({"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}).reset_index()
    ended = raw.assign(ts=raw["ts"] + pd.Timedelta(minutes=spacing))
    with pytest.raises(ValueError, match=r"time stamps of bar ends.*set ingest\.stamps=end"):
        build_bars(ended, CONFIG)
    pd.testing.assert_frame_equal(
        build_bars(ended, IngestConfig(stamps="end")).bars, build_bars(raw, CONFIG).bars, check_exact=True
    )


def test_a_change_of_the_volumes_unit_stops_the_run_and_names_its_day(fortnight: pd.DataFrame) -> None:
    raw = fortnight.copy()
    raw.loc[planted(raw, "2016-09-13 22:00", "2016-10-01 00:00"), "volume"] *= 100
    with pytest.raises(ValueError, match=r"volume unit: from 2016-09-14 on volume is [\d.]+ times"):
        build_bars(raw, CONFIG)
    warned = build_bars(raw, IngestConfig(doubtful="warn"))
    assert [doubt["check"] for doubt in warned.report["doubts"]] == ["volume unit"]
    assert len(warned.quarantine) == 0


def test_a_jump_in_the_week_of_a_roll_is_reported_where_contracts_are_unknown(fortnight: pd.DataFrame) -> None:
    raw = fortnight.drop(columns="contract")
    later = planted(raw, "2016-09-15 22:00", "2016-10-01 00:00")
    for name in PRICES:
        raw.loc[later, name] += 90.0
    (doubt,) = build_bars(raw, CONFIG).report["doubts"]
    assert doubt["check"] == "unadjusted roll" and "2016-09-16 (+9" in doubt["detail"]


def test_prices_off_the_tick_are_a_doubt_above_a_share(week: pd.DataFrame) -> None:
    shifted = week.copy()
    for name in PRICES:
        shifted[name] += 0.1
    (doubt,) = build_bars(shifted, CONFIG).report["doubts"]
    assert (doubt["check"], doubt["count"]) == ("off tick", len(week))
    assert build_bars(week, CONFIG).report["doubts"] == []


def test_real_bars_raise_no_doubt(real_data) -> None:
    raw = pd.read_parquet(real_data / "nq_1m_2015-06_2016-12.parquet")
    report = build_bars(raw, CONFIG).report
    assert report["doubts"] == []
    assert report["quarantined_by_reason"] == {"out of session": 66, AT_CLOSE: 4}


def test_a_holidays_thin_trade_between_two_gaps_is_no_other_contract(make_bars) -> None:
    raw = make_bars(date(2015, 12, 28), date(2016, 2, 5), contract=None)
    local = raw["ts"].dt.tz_convert("America/Chicago")
    minute = local.dt.hour * 60 + local.dt.minute
    raw = raw[(minute >= 510) & (minute < 900)].reset_index(drop=True)
    holiday = (raw["ts"].dt.date == date(2016, 1, 18)).to_numpy()  # closes at noon
    for name in PRICES:
        raw.loc[holiday, name] += 60
    raw.loc[holiday, "volume"] = np.maximum(raw.loc[holiday, "volume"] // 40, 1)
    assert holiday.any() and len(build_bars(raw, CONFIG).quarantine) == 0


@pytest.mark.parametrize(("begin", "factor", "day"), [("2016-09-11 22:00", 0.95, False), ("2016-09-14", 0.93, True)])
def test_a_crash_while_the_market_is_closed_is_said_and_kept(fortnight, begin: str, factor: float, day: bool) -> None:
    raw = fortnight.copy()
    late = raw["ts"] >= pd.Timestamp(begin, tz="UTC")
    raw.loc[late, PRICES] = np.round(raw.loc[late, PRICES] * factor * 4) / 4
    minute = raw["ts"].dt.tz_convert("America/Chicago").dt.hour * 60 + raw["ts"].dt.minute
    raw = raw[(minute >= 510) & (minute < 900)] if day else raw
    found = build_bars(raw, CONFIG)
    assert [doubt["check"] for doubt in found.report["doubts"]] == ["jump of level"] and len(found.quarantine) == 0


@pytest.mark.parametrize("trades", [0.5, 1, 2, 4])
def test_a_front_contract_that_trades_little_is_no_closes_and_no_parts_of_bars(trades: float) -> None:
    """Minutes of so many trades in the mean: one has no range, two have no price beyond open and close."""
    raw = market()
    night = ~raw["ts"].dt.hour.between(14, 20)
    count = np.random.default_rng(0).poisson(np.where(night, trades, 5 * trades))
    for k, (first, second) in {1: ("close", "close"), 2: ("open", "close")}.items():
        few = count == k
        raw.loc[few, "open"] = raw.loc[few, first]
        raw.loc[few, "high"] = raw.loc[few, [first, second]].max(axis=1)
        raw.loc[few, "low"] = raw.loc[few, [first, second]].min(axis=1)
    found = build_bars(raw.assign(volume=count)[count > 0], CONFIG)
    assert found.report["doubts"] == [] and len(found.quarantine) == 0


def test_quotes_of_quiet_days_that_open_apart_from_their_closes_are_no_doubt(real_data: Path) -> None:
    """Between 2019-12-23 and 24 they open up to 1.12 times as far from the close before as from their own."""
    bars = pd.read_parquet(
        real_data / "spxusd_1m_2018_2019.parquet", filters=[("ts", ">=", pd.Timestamp("2019-12-15", tz="UTC"))]
    )
    row = instrument("SPXUSD")
    config = IngestConfig(instrument=row, tick=row.tick, volume=False)
    assert not build_bars(bars.drop(columns="volume").reset_index(drop=True), config).report["doubts"]

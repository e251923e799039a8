"""Products beside NQ: the table's rows, their sessions, real bars of three markets by their own calendars."""

from __future__ import annotations

from datetime import date, time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.market.conftest import MakeBars

from nqcast.market.calendar import OUTSIDE, assign_sessions, sessions_around, trading_date, trading_sessions
from nqcast.market.checks.rows import OTHER_MONTH
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import Halt, Instrument, instrument, table
from nqcast.parameters import ParameterError, check_parameters, with_instrument

YEARS = (date(2018, 1, 1), date(2019, 12, 31))
FILES = {"SPXUSD": "spxusd", "XAUUSD": "xauusd", "EURUSD": "eurusd"}


@pytest.mark.parametrize("symbol", ["NQ", "GC", "SI", "HG", "CL", "NG", "6E", "EURUSD"])
def test_a_row_has_sessions_in_order_that_its_trading_dates_name(symbol: str) -> None:
    row = table()[symbol]
    sessions = trading_sessions(*YEARS, instrument=row)
    assert 495 < len(sessions) < 525
    assert (sessions["open"] < sessions["close"]).all()
    assert (sessions["close"].to_numpy()[:-1] <= sessions["open"].to_numpy()[1:]).all()
    assert [trading_date(ts, row) for ts in sessions["open"]] == list(sessions["session"])
    inside = sessions["close"] - pd.Timedelta(minutes=1)
    assert [trading_date(ts, row) for ts in inside] == list(sessions["session"])


def test_index_futures_are_what_they_were_without_a_table() -> None:
    pd.testing.assert_frame_equal(trading_sessions(*YEARS, instrument=table()["NQ"]), trading_sessions(*YEARS))


def test_a_currency_week_runs_from_sunday_to_friday_at_1700_in_new_york_in_summer_and_winter() -> None:
    for monday in (date(2019, 1, 7), date(2019, 7, 8), date(2019, 3, 11)):
        week = trading_sessions(monday, date.fromordinal(monday.toordinal() + 6), instrument=table()["EURUSD"])
        local = week[["open", "close"]].apply(lambda column: column.dt.tz_convert("America/New_York"))
        assert len(week) == 5 and set(local["open"].dt.time) == set(local["close"].dt.time) == {time(17)}
        assert local["open"].iloc[0].day_name() == "Sunday" and local["close"].iloc[-1].day_name() == "Friday"
        assert (week["close"].to_numpy()[:-1] == week["open"].to_numpy()[1:]).all()
        assert week["halt_start"].isna().all()


@pytest.mark.parametrize("symbol", sorted(FILES))
def test_real_bars_lie_in_the_sessions_of_their_own_calendar(symbol: str, real_data: Path) -> None:
    row, raw = table()[symbol], pd.read_parquet(real_data / f"{FILES[symbol]}_1m_2018_2019.parquet")
    sessions = sessions_around(raw["ts"].iloc[0], raw["ts"].iloc[-1], instrument=row)
    inside = assign_sessions(raw["ts"], sessions) != OUTSIDE
    assert inside.mean() > 0.998
    traded = np.isin(sessions.index, np.unique(assign_sessions(raw["ts"], sessions)))
    within = sessions["open"].between(raw["ts"].iloc[0], raw["ts"].iloc[-1])
    assert traded[within].mean() > 0.99, "hardly a session of the calendar is empty"


@pytest.mark.parametrize("symbol", sorted(FILES))
def test_real_bars_pass_ingest_without_a_doubt(symbol: str, real_data: Path) -> None:
    row, raw = table()[symbol], pd.read_parquet(real_data / f"{FILES[symbol]}_1m_2018_2019.parquet")
    quarter = raw[(raw["ts"] >= "2019-07-01") & (raw["ts"] < "2019-10-01")]
    found = build_bars(quarter, IngestConfig(instrument=row, tick=row.tick, volume=False))
    assert found.report["doubts"] == [] and found.report["off_tick_prices"] == 0
    assert found.bars["traded"].mean() > 0.95


def test_bars_of_currencies_are_refused_by_the_calendar_of_index_futures(real_data: Path) -> None:
    raw = pd.read_parquet(real_data / "eurusd_1m_2018_2019.parquet").head(100_000)
    with pytest.raises(ValueError, match="sessions begin in all weeks at 16:00 exchange time instead of 17:00"):
        build_bars(raw, IngestConfig(volume=False, tick=0.00001))


def test_contracts_of_another_calendar_are_refused_and_the_cure_is_named(make_bars: MakeBars) -> None:
    bars = make_bars(date(2016, 9, 19), date(2016, 9, 23), contract="CLX6")
    with pytest.raises(ValueError, match=r"bars of NQ.*found contracts of CL, which trades by CMEGlobex_CL: set instr"):
        build_bars(bars, IngestConfig())


def test_a_serial_month_of_gold_never_becomes_the_front(make_bars: MakeBars) -> None:
    days, gold = (date(2016, 9, 19), date(2016, 9, 23)), table()["GC"]
    main, serial = (make_bars(*days, seed=seed, contract=name) for seed, name in ((1, "GCZ6"), (2, "GCX6")))
    both = pd.concat([main, serial.assign(volume=serial["volume"] * 100)]).sort_values("ts", ignore_index=True)
    found = build_bars(both, IngestConfig(instrument=gold, tick=0.25))
    assert set(found.bars["contract"]) == {"GCZ6"} and found.roll_ledger == []
    assert (found.quarantine["reason"] == OTHER_MONTH).sum() == len(serial)


def test_a_halt_of_the_users_own_row_is_in_the_sessions_until_its_last_date() -> None:
    row = Instrument(
        symbol="X", calendar="CMEGlobex_GC", halt=Halt(start=time(13), end=time(13, 30), until=date(2019, 5, 14))
    )
    sessions = trading_sessions(date(2019, 5, 13), date(2019, 5, 16), instrument=row).set_index("session")
    start = sessions["halt_start"].dt.tz_convert("America/Chicago").dt.time
    assert list(start[:2]) == [time(13)] * 2 and sessions["halt_start"][2:].isna().all()
    assert sessions["halt_end"]["2019-05-14"] - sessions["halt_start"]["2019-05-14"] == pd.Timedelta(minutes=30)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"calendar": "24/5"}, "expected opens with the calendar 24/5"),
        ({"opens": "17:00"}, "expected opens with the calendar 24/5"),
        ({"months": "ABC"}, "letters of contract months"),
        ({"halt": {"start": "13:00", "end": "13:10"}}, "has its own by date"),
        ({"calendar": "CME_Rates"}, r"found 'CME_Rates': did you mean CME_Rate\?$"),
        ({"zone": "America/Chikago"}, r"found 'America/Chikago': did you mean America/Chicago\?$"),
        ({"calender": "CME_Rate"}, r"^in its row of `instruments`, calender: .* did you mean calendar\?$"),
        ({"tick": -1}, r"^in its row of `instruments`, tick: Input should be greater than 0, found -1$"),
    ],
)
def test_a_row_that_cannot_be_meant_is_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        instrument("MINE", {"MINE": row})


def test_the_instrument_brings_its_tick_and_what_the_user_says_stays() -> None:
    gold = check_parameters(with_instrument({"instrument": "GC"}))
    assert (gold.ingest.tick, gold.features.tick, gold.ingest.instrument.calendar) == (0.1, 0.1, "CMEGlobex_GC")
    said = check_parameters(with_instrument({"instrument": "GC", "ingest": {"tick": 1}, "features": {"tick": 1}}))
    assert said.ingest.tick == said.features.tick == 1.0
    own = with_instrument(
        {"instrument": "BUND", "instruments": {"BUND": {"tick": 0.01, "calendar": "24/5", "opens": "17:00"}}}
    )
    assert check_parameters(own).ingest.instrument.symbol == "BUND"
    coarse = with_instrument({"instruments": {"NQ": {"tick": 1.0, "calendar": "24/5", "opens": "17:00"}}})
    assert check_parameters(coarse).ingest.tick == check_parameters(coarse).features.tick == 1.0
    with pytest.raises(ParameterError, match="found 'GCC': did you mean GC"):
        with_instrument({"instrument": "GCC"})


def test_every_row_has_a_calendar_that_the_library_knows() -> None:
    import pandas_market_calendars

    known = set(pandas_market_calendars.get_calendar_names())
    assert {row.calendar for row in table().values()} <= known

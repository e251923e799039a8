"""Sessions against literal tables of exchange times, and stamps against a brute-force search."""

from __future__ import annotations

from datetime import date, time

import numpy as np
import pandas as pd
import pytest

from nqcast.market.calendar import (
    LAST_HALT,
    OUTSIDE,
    assign_sessions,
    extend_sessions,
    runs_outside,
    trading_date,
    trading_sessions,
)

CHICAGO = "America/Chicago"


def _close(day: str) -> str:
    (row,) = trading_sessions(date.fromisoformat(day), date.fromisoformat(day)).itertuples()
    return f"{row.close.tz_convert(CHICAGO):%Y-%m-%d %H:%M}"


@pytest.mark.parametrize(
    ("day", "close"),
    [
        ("2012-11-16", "15:15"),
        ("2012-11-19", "16:15"),
        ("2015-09-18", "16:15"),
        ("2015-09-21", "16:00"),
        ("2015-11-26", "12:00"),
        ("2015-11-27", "12:15"),
        ("2015-12-24", "12:15"),
        ("2016-07-04", "12:00"),
        ("2016-09-05", "12:00"),
        ("2009-06-10", "16:30"),
        ("2009-06-12", "15:15"),
        ("2011-04-21", "15:15"),
        ("2012-07-04", "10:30"),
        ("2012-10-30", "08:15"),
        ("2012-11-15", "16:30"),
        ("2012-11-19", "16:15"),
        ("2014-02-17", "10:30"),
        ("2014-05-26", "12:00"),
        ("2016-11-25", "12:15"),
        ("2018-07-03", "12:15"),
        ("2018-12-05", "08:30"),
        ("2020-07-03", "12:00"),
        ("2021-04-02", "08:15"),
        ("2024-07-02", "16:00"),
    ],
)
def test_a_session_closes_at_the_exchange_time_of_its_date(day: str, close: str) -> None:
    assert _close(day) == f"{day} {close}"


def test_holidays_have_no_session() -> None:
    closed = ["2015-12-25", "2016-01-01", "2016-03-25", "2021-12-24", "2024-03-29", "2016-07-03", "2027-03-26"]
    for day in map(date.fromisoformat, closed):
        assert trading_sessions(day, day).empty, day


def test_a_session_opens_at_1700_chicago_time_on_either_side_of_dst() -> None:
    sessions = trading_sessions(date(2016, 3, 11), date(2016, 11, 7)).set_index("session")
    opens = sessions["open"]
    assert opens["2016-03-11"] == pd.Timestamp("2016-03-10 23:00", tz="UTC")
    assert opens["2016-03-14"] == pd.Timestamp("2016-03-13 22:00", tz="UTC")
    assert opens["2016-11-04"] == pd.Timestamp("2016-11-03 22:00", tz="UTC")
    assert opens["2016-11-07"] == pd.Timestamp("2016-11-06 23:00", tz="UTC")
    length = (sessions["close"] - opens).value_counts()
    assert length.index[0] == pd.Timedelta(hours=23)
    assert set(length.index) == {pd.Timedelta(hours=23), pd.Timedelta(hours=19)}


def test_the_afternoon_halt_lasts_from_the_first_bars_to_june_2021() -> None:
    sessions = trading_sessions(date(2008, 12, 1), date(2021, 12, 31))
    halted = sessions[sessions["halt_start"].notna()]
    assert halted["session"].min() == pd.Timestamp("2008-12-01")
    assert halted["session"].max() == pd.Timestamp(LAST_HALT)
    older = halted["session"] <= pd.Timestamp("2012-11-16")
    assert set(halted.loc[older, "session"].dt.day_of_week) == {0, 1, 2, 3}  # a Friday ended at 15:15
    local = halted["halt_start"].dt.tz_convert(CHICAGO)
    assert set(zip(local.dt.hour, local.dt.minute, strict=True)) == {(15, 15)}
    assert ((halted["halt_end"] - halted["halt_start"]) == pd.Timedelta(minutes=15)).all()
    assert (halted["halt_end"] < halted["close"]).all()


def test_sessions_follow_each_other_without_overlap_and_on_the_five_minute_grid() -> None:
    sessions = trading_sessions(date(2006, 1, 1), date(2027, 12, 31))
    opens, closes = sessions["open"], sessions["close"]
    assert (opens < closes).all()
    assert (opens.iloc[1:].to_numpy() >= closes.iloc[:-1].to_numpy()).all()
    assert sessions["session"].is_monotonic_increasing and sessions["session"].is_unique
    for column in ("open", "close"):
        assert (sessions[column].dt.floor("5min") == sessions[column]).all()


def test_given_closes_override_and_add_sessions() -> None:
    closes = {date(2016, 9, 21): time(10, 0), date(2016, 12, 26): time(11, 30), date(2030, 1, 2): time(9, 0)}
    sessions = trading_sessions(date(2016, 9, 1), date(2016, 12, 30), closes).set_index("session")
    assert sessions.loc["2016-09-21", "close"].tz_convert(CHICAGO).hour == 10
    assert pd.isna(sessions.loc["2016-09-21", "halt_start"])
    assert sessions.loc["2016-12-26", "close"].tz_convert(CHICAGO).time() == time(11, 30)
    assert sessions.index.max() < pd.Timestamp("2017-01-01")


def test_every_stamp_gets_the_session_that_a_search_one_by_one_finds() -> None:
    sessions = trading_sessions(date(2015, 9, 10), date(2015, 12, 1))
    rng = np.random.default_rng(3)
    first, last = pd.Timestamp("2015-09-01", tz="UTC"), pd.Timestamp("2015-12-10", tz="UTC")
    drawn = pd.Series(first + pd.to_timedelta(rng.integers(0, (last - first) // pd.Timedelta("1min"), 2000), "min"))
    edges = pd.concat([drawn, sessions["open"], sessions["close"], sessions["close"] - pd.Timedelta("1min")])
    found = assign_sessions(edges, sessions)
    for ts, position in zip(edges, found, strict=True):
        holding = [k for k, row in enumerate(sessions.itertuples()) if row.open <= ts < row.close]
        assert position == (holding[0] if holding else OUTSIDE)


def _stamps(*starts_and_minutes: tuple[str, int]) -> pd.Series:
    runs = [pd.date_range(start, periods=n, freq="min", tz="UTC") for start, n in starts_and_minutes]
    return pd.concat([run.to_series() for run in runs], ignore_index=True)


def test_five_consecutive_minutes_make_a_question_and_four_do_not() -> None:
    ts = _stamps(("2016-09-17 12:00", 4), ("2016-09-17 15:00", 5), ("2016-09-18 10:00", 1))
    runs = runs_outside(ts, np.full(len(ts), OUTSIDE), spacing=1, minutes=5)
    assert runs["start"].tolist() == [pd.Timestamp("2016-09-17 15:00", tz="UTC")]
    assert runs["end"].tolist() == [pd.Timestamp("2016-09-17 15:05", tz="UTC")]
    assert runs["minutes"].tolist() == [5]


def test_one_five_minute_bar_is_no_question() -> None:
    ts = pd.Series(pd.to_datetime(["2016-09-17 12:00", "2016-09-17 15:00", "2016-09-17 15:05"], utc=True))
    runs = runs_outside(ts, np.full(3, OUTSIDE), spacing=5, minutes=5)
    assert runs["minutes"].tolist() == [10]


def test_a_run_after_the_close_widens_its_session_and_one_on_a_holiday_makes_its_own() -> None:
    sessions = trading_sessions(date(2016, 12, 20), date(2016, 12, 30))
    ts = _stamps(("2016-12-22 22:00", 10), ("2016-12-26 14:00", 30))  # 16:00 Chicago; the holiday's morning
    runs = runs_outside(ts, assign_sessions(ts, sessions), spacing=1, minutes=5)
    extended = extend_sessions(sessions, runs)
    position = assign_sessions(ts, extended)
    assert (position != OUTSIDE).all()
    days = extended["session"].iloc[position].dt.date.unique().tolist()
    assert days == [date(2016, 12, 22), date(2016, 12, 26)]
    untouched = sessions[~sessions["session"].isin([pd.Timestamp("2016-12-22")])]
    kept = extended[extended["session"].isin(untouched["session"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, untouched.reset_index(drop=True))


def test_the_trading_date_changes_at_1700_chicago_time() -> None:
    assert trading_date(pd.Timestamp("2016-09-19 21:59", tz="UTC")) == pd.Timestamp("2016-09-19")
    assert trading_date(pd.Timestamp("2016-09-19 22:00", tz="UTC")) == pd.Timestamp("2016-09-20")
    assert trading_date(pd.Timestamp("2016-12-19 22:59", tz="UTC")) == pd.Timestamp("2016-12-19")


def test_dates_the_wrong_way_round_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"expected end on or after start.*swap"):
        trading_sessions(date(2016, 2, 1), date(2016, 1, 1))

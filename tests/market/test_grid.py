"""The 5-minute grid against pandas' resample and sums written out bar by bar."""

from __future__ import annotations

from datetime import date

import numpy as np
import pandas as pd
import pytest

from nqcast.market.calendar import trading_sessions
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars


@pytest.fixture(scope="module")
def bars(week: pd.DataFrame) -> pd.DataFrame:
    return build_bars(week, IngestConfig()).bars


def test_prices_and_volume_of_a_session_equal_those_of_pandas_resample(week: pd.DataFrame, bars: pd.DataFrame) -> None:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    expected = week.set_index("ts").resample("5min").agg(rules).dropna()
    found = bars[bars["traded"]].set_index("ts")[list(rules)]
    pd.testing.assert_frame_equal(found, expected, check_freq=False, check_index_type=False)


def test_every_slot_between_the_first_and_last_bar_of_a_session_has_one_row(bars: pd.DataFrame) -> None:
    for _, session in bars.groupby("session"):
        expected = pd.date_range(session["ts"].iloc[0], session["ts"].iloc[-1], freq="5min")
        assert session["ts"].tolist() == expected.tolist()
        assert session["traded"].iloc[0] and session["traded"].iloc[-1]


def test_a_row_without_a_trade_stands_at_the_last_close_with_no_volume_and_no_variance(week: pd.DataFrame) -> None:
    sparse = week[np.random.default_rng(5).random(len(week)) < 0.1]
    bars = build_bars(sparse, IngestConfig(doubtful="warn")).bars
    idle = np.flatnonzero(~bars["traded"])
    assert len(idle) > 300
    for name in ("open", "high", "low", "close"):
        np.testing.assert_array_equal(bars[name].to_numpy()[idle], bars["close"].to_numpy()[idle - 1])
    assert (bars.loc[idle, ["volume", "realized_variance"]] == 0).all(axis=None)
    traded = set(sparse["ts"].dt.floor("5min"))
    assert set(bars["ts"][bars["traded"]]) == traded


def test_a_session_ends_with_its_known_close_but_the_newest_with_its_last_bar(make_bars) -> None:
    """A bar before a silent last slot has the same target as before a traded one."""
    raw = make_bars(date(2016, 9, 20), date(2016, 9, 21), missing=0.0)
    last = pd.Timestamp("2016-09-20 20:55", tz="UTC"), pd.Timestamp("2016-09-21 20:55", tz="UTC")
    silent = raw["ts"].between(last[0], last[0] + pd.Timedelta("1h"))
    full, thin = (build_bars(part, IngestConfig()).bars for part in (raw, raw[~silent]))
    assert len(full) == len(thin) and not thin.loc[thin["ts"] == last[0], "traded"].item()
    np.testing.assert_array_equal(full["ts"], thin["ts"])
    cut = build_bars(raw[raw["ts"] < last[1]], IngestConfig()).bars
    assert cut["ts"].iloc[-1] == last[1] - pd.Timedelta("5min")
    assert (full.groupby("session")["bars_to_close"].min() == 0).all()
    assert (full.groupby("session")["bars_to_close"].diff().dropna() == -1).all()


def test_realized_variance_is_the_sum_over_the_minutes_written_out(week: pd.DataFrame, bars: pd.DataFrame) -> None:
    sessions = trading_sessions(date(2016, 9, 19), date(2016, 9, 23))
    expected: dict[pd.Timestamp, float] = {}
    for session in sessions.itertuples():
        last_close = None
        for minute in week[(week["ts"] >= session.open) & (week["ts"] < session.close)].itertuples():
            move = np.log(minute.close / (minute.open if last_close is None else last_close))
            slot = minute.ts.floor("5min")
            expected[slot] = expected.get(slot, 0.0) + move**2
            last_close = minute.close
    found = bars[bars["traded"]]
    np.testing.assert_allclose(found["realized_variance"], [expected[ts] for ts in found["ts"]], rtol=1e-9, atol=1e-18)


def test_the_halt_is_flagged_and_holds_three_untraded_rows_a_session(bars: pd.DataFrame) -> None:
    halted = bars[bars["halt"]]
    local = halted["ts"].dt.tz_convert("America/Chicago").dt.strftime("%H:%M")
    assert local.tolist() == ["15:15", "15:20", "15:25"] * 5
    assert not halted["traded"].any()


def test_gap_minutes_run_from_the_end_of_one_session_to_the_start_of_the_next(make_bars) -> None:
    raw = make_bars(date(2016, 9, 15), date(2016, 9, 20), missing=0.0)
    bars = build_bars(raw, IngestConfig()).bars
    opening = bars.groupby("session").head(1)
    assert opening["gap_minutes"].tolist() == [0.0, 60.0, 49 * 60.0, 60.0]  # the weekend: Friday 16:00 to Sunday 17:00
    assert (bars.drop(opening.index)["gap_minutes"] == 0).all()


def test_a_five_minute_file_passes_through_with_each_bars_own_squared_return(bars: pd.DataFrame) -> None:
    source = bars.loc[bars["traded"], ["ts", "open", "high", "low", "close", "volume"]]
    again = build_bars(source, IngestConfig()).bars
    columns = ["ts", "open", "high", "low", "close", "volume", "traded", "halt", "session", "gap_minutes"]
    pd.testing.assert_frame_equal(again[columns], bars[columns])
    first = ~bars["session"].duplicated()
    own = np.where(first, np.log(bars["close"] / bars["open"]), np.log(bars["close"]).diff())
    np.testing.assert_allclose(again["realized_variance"], own**2, rtol=1e-9, atol=1e-18)


def test_a_file_without_volume_gives_volume_zero_and_the_same_prices(week: pd.DataFrame, bars: pd.DataFrame) -> None:
    found = build_bars(week.drop(columns="volume"), IngestConfig(volume=False)).bars
    pd.testing.assert_frame_equal(found.drop(columns="volume"), bars.drop(columns="volume"))
    assert (found["volume"] == 0).all()


def test_session_slots_keep_to_the_clock_over_a_change_of_dst(make_bars) -> None:
    bars = build_bars(make_bars(date(2016, 11, 3), date(2016, 11, 9), missing=0.0), IngestConfig()).bars
    slots = bars.groupby("session")["ts"].agg(
        first=lambda ts: ts.iloc[0].tz_convert("America/Chicago").strftime("%H:%M"),
        last=lambda ts: ts.iloc[-1].tz_convert("America/Chicago").strftime("%H:%M"),
        rows="size",
    )
    assert set(slots["first"]) == {"17:00"} and set(slots["last"]) == {"15:55"} and set(slots["rows"]) == {276}

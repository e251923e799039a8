"""The embedded market: bars drawn from a seed alone, on the tick and the calendar, with rolls that ingest finds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from tests.market.known_rolls import known_rolls

from nqcast.market.calendar import OUTSIDE, assign_sessions, sessions_around, trading_sessions
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.contracts import market_sessions
from nqcast.market.simulation.simulator import simulate

ROLL_SESSIONS = 60
"""From 2016-01-04 on, these hold the roll of March 2016."""


@pytest.fixture(scope="module")
def market() -> SimulationConfig:
    return SimulationConfig(seed=7, sessions=ROLL_SESSIONS)


@pytest.fixture(scope="module")
def raw(market: SimulationConfig) -> pd.DataFrame:
    return simulate(market)


def _positions(raw: pd.DataFrame) -> tuple[np.ndarray, pd.DataFrame]:
    sessions = sessions_around(raw["ts"].iloc[0], raw["ts"].iloc[-1])
    return assign_sessions(raw["ts"], sessions), sessions


def test_equal_configurations_give_equal_bars_and_another_seed_others(
    market: SimulationConfig, raw: pd.DataFrame
) -> None:
    pd.testing.assert_frame_equal(simulate(market), raw)
    other = simulate(market.model_copy(update={"seed": 8}))
    assert not other["close"].iloc[:1000].equals(raw["close"].iloc[:1000])


def test_a_longer_market_starts_with_the_same_bars(market: SimulationConfig, raw: pd.DataFrame) -> None:
    longer = simulate(market.model_copy(update={"sessions": ROLL_SESSIONS + 15}))
    start = longer[longer["ts"] <= raw["ts"].iloc[-1]].reset_index(drop=True)
    pd.testing.assert_frame_equal(start, raw)


def test_prices_lie_on_the_tick_and_inside_the_range_of_their_minute(
    market: SimulationConfig, raw: pd.DataFrame
) -> None:
    prices = raw[["open", "high", "low", "close"]]
    ticks = prices / market.tick
    assert (ticks == ticks.round()).all(axis=None)
    assert (raw["high"] == prices.max(axis=1)).all()
    assert (raw["low"] == prices.min(axis=1)).all()
    assert (raw["low"] > 0).all() and (raw["volume"] >= 1).all()
    assert not raw.duplicated(["ts", "contract"]).any()


def test_bars_follow_the_calendar_but_for_single_weekend_strays(market: SimulationConfig, raw: pd.DataFrame) -> None:
    position, sessions = _positions(raw)
    stray = raw[position == OUTSIDE]
    drawn = trading_sessions(market.start, raw["ts"].iloc[-1].date())["session"]
    held = sessions["session"].iloc[np.unique(position[position != OUTSIDE])]
    assert held.tolist() == drawn[: market.sessions].tolist()
    assert 1 <= len(stray) <= 40
    assert stray["ts"].diff().dropna().min() >= pd.Timedelta(minutes=1)
    assert (stray["volume"] <= 5).all()
    assert stray["ts"].dt.tz_convert("America/Chicago").dt.day_of_week.isin([4, 5, 6, 0]).all()


def test_no_bar_trades_in_the_halt_and_quiet_hours_miss_more_minutes(raw: pd.DataFrame) -> None:
    position, sessions = _positions(raw)
    inside = raw[position != OUTSIDE]
    held = sessions.iloc[position[position != OUTSIDE]].reset_index(drop=True)
    ts = inside["ts"].reset_index(drop=True)
    assert not ((ts >= held["halt_start"]) & (ts < held["halt_end"])).any()
    clock = ts.dt.tz_convert("America/Chicago")
    per_hour = ts[inside["contract"].to_numpy() == "201603"].groupby(clock.dt.hour).size()
    assert per_hour[23] < 0.93 * per_hour[10]


@pytest.mark.parametrize("rule", ["volume", "session_end", "mid_session"])
def test_ingest_finds_the_known_ledger(rule: str) -> None:
    config = SimulationConfig(seed=3, sessions=ROLL_SESSIONS, roll=rule)
    known = known_rolls(config)
    ingested = build_bars(simulate(config), IngestConfig())
    found = [entry for entry in ingested.roll_ledger if entry["rule"] != "jump"]
    assert len(known) == len(found) == 1
    for truth, entry in zip(known, found, strict=True):
        assert (entry["from_contract"], entry["to_contract"]) == (truth["from_contract"], truth["to_contract"])
        assert entry["rule"] == truth["rule"]
        assert pd.Timestamp(entry["session"]) == truth["session"]
        late = pd.Timestamp(entry["ts"]) - truth["ts"]
        assert pd.Timedelta(0) <= late <= pd.Timedelta(minutes=10)
        assert entry["factor"] == pytest.approx(truth["factor"], abs=5e-5)


def test_the_rules_of_a_roll_differ_where_they_should() -> None:
    by_rule = {rule: known_rolls(SimulationConfig(sessions=60, roll=rule))[0] for rule in ("volume", "mid_session")}
    opening = by_rule["volume"]["ts"].tz_convert("America/Chicago")
    ending = by_rule["mid_session"]["ts"].tz_convert("America/Chicago")
    assert (opening.hour, opening.minute) == (17, 0)
    assert (ending.date().isoformat(), ending.hour, ending.minute) == ("2016-03-18", 8, 30)


def test_contracts_overlap_and_volume_migrates_once(market: SimulationConfig, raw: pd.DataFrame) -> None:
    position, sessions = _positions(raw)
    day = sessions["session"].to_numpy()[position]
    inside = position != OUTSIDE
    volume = raw[inside].groupby([day[inside], raw["contract"][inside]])["volume"].sum().unstack(fill_value=0)
    both = volume[(volume["201603"] > 0) & (volume["201606"] > 0)]
    more = (both["201606"] > both["201603"]).astype(int)
    assert len(both) >= 10
    assert (more.diff().dropna() >= 0).all() and more.sum() >= 1
    first_more = more.index[more.argmax()]
    roll = known_rolls(market)[0]["session"]
    assert volume.index[volume.index.get_loc(first_more) + 1] == roll


def test_hardly_any_bar_is_quarantined(raw: pd.DataFrame) -> None:
    ingested = build_bars(raw, IngestConfig())
    position, _ = _positions(raw)
    assert len(ingested.quarantine) == int((position == OUTSIDE).sum())


def test_too_many_sessions_for_the_calendar_are_refused() -> None:
    with pytest.raises(ValueError, match="sessions"):
        simulate(SimulationConfig(sessions=0))


def test_a_market_that_would_reach_beyond_today_is_refused_with_its_last_session() -> None:
    found = r"3790 sessions from 2016-01-04 on to be over, .* the last closes at 20[3-9]\d-.*, or ask for \d+ at"
    with pytest.raises(ValueError, match=found):
        simulate(SimulationConfig(sessions=3790))
    assert len(market_sessions(SimulationConfig(sessions=3790, start="2008-12-01"))) == 3790 + 80


def test_a_market_goes_up_to_the_latest_session_that_is_over_and_no_farther() -> None:
    now = pd.Timestamp.now("UTC")
    start = (now - pd.Timedelta(days=20)).date()
    sessions = trading_sessions(start, (now + pd.Timedelta(days=10)).date())
    over = int((sessions["close"] <= now).sum())
    latest = market_sessions(SimulationConfig(sessions=over, start=start)).iloc[over - 1]
    assert latest["session"] == sessions["session"].iloc[over - 1]
    last = sessions["close"].iloc[over]
    with pytest.raises(ValueError, match=f"at {last:%Y-%m-%d %H:%M} UTC: start earlier, or ask for {over} at most$"):
        market_sessions(SimulationConfig(sessions=over + 1, start=start))


def test_a_market_that_starts_in_the_future_can_only_start_earlier() -> None:
    start = (pd.Timestamp.now("UTC") + pd.Timedelta(days=9)).date()
    with pytest.raises(ValueError, match=r"^expected 1 session from .* UTC: start earlier$"):
        market_sessions(SimulationConfig(sessions=1, start=start))


def test_the_name_of_the_bars_says_by_what_they_are_drawn() -> None:
    assert [SimulationConfig(seed=7, sessions=n).source for n in (60, 70)] == ["SIMULATED MARKET (seed 7)"] * 2
    other = SimulationConfig(start="2014-01-06", leverage_deviation=0.3)
    assert other.source == "SIMULATED MARKET (seed 2016, start 2014-01-06, leverage_deviation 0.3)"

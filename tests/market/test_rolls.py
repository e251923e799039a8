"""Front changes and factors: made contracts of known ratio, the simulated market's true ledger, measured real rolls."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from tests.market.known_rolls import known_rolls

from nqcast.market.checks.rows import AT_CLOSE, OUT_OF_SESSION
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import instrument
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.market.vendor import read_bars

CONFIG = IngestConfig()
PRICES = ["open", "high", "low", "close"]
SLOT = pd.Timedelta(minutes=5)


def test_the_front_changes_at_the_session_after_the_one_in_which_the_next_traded_more(two_contracts) -> None:
    found = build_bars(two_contracts, CONFIG)
    (roll,) = found.roll_ledger
    assert (roll["rule"], roll["from_contract"], roll["to_contract"]) == ("volume", "NQU6", "NQZ6")
    assert roll["session"] == "2016-09-19"  # 09-16, a Friday, is the first session with more volume in NQZ6
    assert pd.Timestamp(roll["ts"]) >= pd.Timestamp("2016-09-18 22:00", tz="UTC")
    by_session = found.bars.groupby("session")["contract"].unique().map(list)
    assert by_session.loc[:"2016-09-16"].map(lambda names: names == ["NQU6"]).all()
    assert by_session.loc["2016-09-19":].map(lambda names: names == ["NQZ6"]).all()


def test_the_factor_is_old_over_new_and_multiplies_only_the_later_contract(two_contracts) -> None:
    found = build_bars(two_contracts, CONFIG)
    (roll,) = found.roll_ledger
    assert roll["factor"] == pytest.approx(1 / 0.998, rel=1e-12)
    assert roll["spread_points"] < 0 < roll["common_minutes"] <= 1440
    later = found.bars["contract"] == "NQZ6"
    np.testing.assert_array_equal(found.bars["close"][~later], found.bars["raw_close"][~later])
    np.testing.assert_allclose(found.bars["close"][later], found.bars["raw_close"][later] / 0.998, rtol=1e-12)
    assert not found.bars["unadjusted"].any()


def test_the_joined_series_is_the_old_contract_gone_on(two_contracts) -> None:
    one = two_contracts[two_contracts["contract"] == "NQU6"]
    whole, joined = build_bars(one, CONFIG).bars, build_bars(two_contracts, CONFIG).bars
    for name in [*PRICES, "realized_variance"]:
        np.testing.assert_allclose(joined[name], whole[name], rtol=1e-9, atol=1e-15)


def test_the_front_never_changes_back(two_contracts) -> None:
    raw = two_contracts.copy()
    back = (raw["ts"] >= pd.Timestamp("2016-09-19 22:00", tz="UTC")) & (raw["contract"] == "NQU6")
    raw.loc[back, "volume"] *= 100
    found = build_bars(raw, CONFIG)
    assert len(found.roll_ledger) == 1
    assert (found.bars["contract"][found.bars["session"] >= "2016-09-19"] == "NQZ6").all()


def test_the_front_changes_within_a_session_where_the_old_bars_end(two_contracts) -> None:
    end = pd.Timestamp("2016-09-15 14:02", tz="UTC")
    raw = two_contracts[(two_contracts["contract"] == "NQZ6") | (two_contracts["ts"] < end)]
    found = build_bars(raw, CONFIG)
    (roll,) = found.roll_ledger
    assert roll["rule"] == "end_of_bars"
    last_old = raw["ts"][raw["contract"] == "NQU6"].max()
    new = raw["ts"][raw["contract"] == "NQZ6"]
    assert pd.Timestamp(roll["ts"]) == new[new > last_old].min()
    assert roll["factor"] == pytest.approx(1 / 0.998, rel=1e-12)


def test_of_many_listed_contracts_the_nearest_is_the_first_front_and_the_fronts_follow_by_expiry(make_bars) -> None:
    old = make_bars(date(2016, 9, 12), date(2016, 9, 21), seed=1, missing=0.0, contract="NQU6")
    session = (old["ts"] + pd.Timedelta(hours=2)).dt.strftime("%m-%d")
    volume = {
        "NQU6": np.where(session < "09-15", 100, 1),
        "NQZ6": np.where(session < "09-19", 50, 1),
        "NQH7": np.where(session < "09-20", 20, 1000),
        "NQM7": np.where(session < "09-14", 99, 2),  # busier than the next, but further away
    }
    raw = pd.concat(
        [
            old.assign(contract=pd.Series([name] * len(old), dtype="str"), volume=2 * v + np.arange(len(old)) % 2)
            for name, v in volume.items()
        ]
    ).sample(frac=1, random_state=0)
    ledger = build_bars(raw, CONFIG).roll_ledger
    assert [(entry["session"], entry["from_contract"], entry["to_contract"]) for entry in ledger] == [
        ("2016-09-16", "NQU6", "NQZ6"),
        ("2016-09-20", "NQZ6", "NQH7"),
    ]


def test_a_pause_of_the_old_contract_is_no_end_until_the_next_has_traded_an_hour_on(two_contracts) -> None:
    pause = pd.Timestamp("2016-09-15 14:02", tz="UTC")
    raw = two_contracts[(two_contracts["contract"] == "NQZ6") | (two_contracts["ts"] < pause)]
    for minutes, rolls in ((58, 0), (62, 1)):
        assert len(build_bars(raw[raw["ts"] < pause + pd.Timedelta(minutes=minutes)], CONFIG).roll_ledger) == rolls


def test_contracts_without_a_common_minute_are_joined_by_factor_one_and_flagged(two_contracts) -> None:
    cut = pd.Timestamp("2016-09-15 14:02", tz="UTC")
    contract, ts = two_contracts["contract"], two_contracts["ts"]
    raw = two_contracts[((contract == "NQU6") & (ts < cut)) | ((contract == "NQZ6") & (ts >= cut))]
    found = build_bars(raw, CONFIG)
    (roll,) = found.roll_ledger
    assert (roll["factor"], roll["common_minutes"], roll["adjusted"]) == (1.0, 0, False)
    bars = found.bars
    assert bars.loc[bars["unadjusted"], "ts"].tolist() == [pd.Timestamp(roll["ts"]).floor("5min")]
    crossing = bars[bars["unadjusted"]].iloc[0]
    assert crossing["high"] / crossing["low"] < 1.001  # the jump of 0.2 % is not inside the bar
    assert crossing["realized_variance"] < 1e-6
    np.testing.assert_array_equal(bars["close"], bars["raw_close"])


def test_common_minutes_older_than_the_limit_do_not_make_a_factor(two_contracts) -> None:
    contract, ts = two_contracts["contract"], two_contracts["ts"]
    old_end, new_pause = (pd.Timestamp(day, tz="UTC") for day in ("2016-09-21 10:00", "2016-09-14 12:00"))
    raw = two_contracts[
        ((contract == "NQU6") & (ts < old_end)) | ((contract == "NQZ6") & ((ts < new_pause) | (ts >= old_end)))
    ].assign(volume=1)
    config = IngestConfig(doubtful="warn")
    assert build_bars(raw, config).roll_ledger[0]["adjusted"]
    assert not build_bars(raw, IngestConfig(doubtful="warn", overlap_max_age_days=6)).roll_ledger[0]["adjusted"]


def test_without_volume_the_front_changes_only_where_bars_end(two_contracts) -> None:
    found = build_bars(two_contracts.drop(columns="volume"), IngestConfig(volume=False))
    assert found.roll_ledger == []
    assert set(found.bars["contract"]) == {"NQU6"}


def test_unknown_contracts_change_no_price_and_a_jump_in_the_weeks_of_a_roll_is_left_out(make_bars) -> None:
    raw = make_bars(date(2016, 9, 5), date(2016, 9, 23), contract=None)
    jump = raw["ts"] >= pd.Timestamp("2016-09-14 22:00", tz="UTC")
    raw.loc[jump, PRICES] += 50
    found = build_bars(raw, CONFIG)
    np.testing.assert_array_equal(found.bars["close"], found.bars["raw_close"])
    assert [(entry["rule"], entry["session"], entry["factor"]) for entry in found.roll_ledger] == [
        ("unadjusted", "2016-09-15", 1.0)
    ]
    assert found.roll_ledger[0]["spread_points"] == pytest.approx(50, abs=2)
    assert set(found.bars["contract"]) == {"unknown"}
    assert found.bars.loc[found.bars["unadjusted"], "ts"].tolist() == [pd.Timestamp("2016-09-14 22:00", tz="UTC")]
    as_moves = build_bars(raw, IngestConfig(continuous="adjusted"))
    assert as_moves.roll_ledger[0]["rule"] == "jump" and not as_moves.bars["unadjusted"].any()
    pd.testing.assert_frame_equal(as_moves.bars.drop(columns="unadjusted"), found.bars.drop(columns="unadjusted"))


@pytest.mark.parametrize(
    ("at", "symbol", "marked"),
    [
        ("2016-09-14 00:00", "NQ", True),
        ("2016-09-13 05:01", "NQ", True),
        ("2016-09-13 13:30", "NQ", True),
        ("2016-09-09 17:37", "NQ", True),
        ("2016-09-22 00:00", "NQ", False),
        ("2016-09-22 00:00", "GC", True),
        ("2016-09-08 14:02", "GC", False),
        ("2016-09-20 14:02", "CL", True),
    ],
)
def test_a_jump_inside_a_session_may_be_a_roll_in_the_weeks_of_the_products_own_months(
    make_bars, at: str, symbol: str, marked: bool
) -> None:
    raw = make_bars(date(2016, 9, 5), date(2016, 9, 23), contract=None)
    raw.loc[raw["ts"] >= at, PRICES] -= 40
    months = instrument("NQ").model_copy(update={"months": instrument(symbol).months})
    bars = build_bars(raw, IngestConfig(instrument=months)).bars
    assert bars.set_index("ts")["unadjusted"][pd.Timestamp(at, tz="UTC").floor("5min")] == marked


@pytest.mark.slow
def test_the_rolls_of_real_bars_without_contracts_are_found_and_no_other_jump_is_taken_for_one(real_data: Path) -> None:
    span = [("ts", ">=", pd.Timestamp("2018-01-01", tz="UTC")), ("ts", "<", pd.Timestamp("2020-01-01", tz="UTC"))]
    raw = pd.read_parquet(real_data / "nq_1m_2008-12_2021-12.parquet", filters=span)
    change = raw["contract"] != raw["contract"].shift()
    found = build_bars(raw.drop(columns="contract"), IngestConfig(volume=False))
    marked = [pd.Timestamp(entry["ts"]) for entry in found.roll_ledger if entry["rule"] == "unadjusted"]
    assert marked == raw["ts"][change].tolist()[1:]


@pytest.mark.parametrize("roll", ["volume", "session_end", "mid_session"])
def test_the_ledger_is_the_true_one_of_the_simulated_market(
    roll: Literal["volume", "session_end", "mid_session"],
) -> None:
    config = SimulationConfig(sessions=140, roll=roll)
    found = build_bars(simulate(config), CONFIG).roll_ledger
    true = known_rolls(config)
    assert len(true) == len(found) >= 2
    for entry, known in zip(found, true, strict=True):
        assert pd.Timestamp(entry["ts"]) == known["ts"]
        assert (entry["from_contract"], entry["to_contract"]) == (known["from_contract"], known["to_contract"])
        assert entry["rule"] == known["rule"]
        assert entry["factor"] == pytest.approx(known["factor"], abs=5e-5)


def test_the_rolls_of_the_real_file_are_the_measured_ones(real_data: Path) -> None:
    raw = read_bars(real_data / "nq_1m_2015-06_2016-12.parquet")
    found = build_bars(raw, CONFIG)
    measured = json.loads((real_data / "nq_2015-06_2016-12_rolls.json").read_text())
    assert len(found.roll_ledger) == len(measured) == 5
    for entry, known in zip(found.roll_ledger, measured, strict=True):
        assert (entry["from_contract"], entry["to_contract"]) == (known["from_contract"], known["to_contract"])
        assert abs(pd.Timestamp(entry["ts"]) - pd.Timestamp(known["roll_ts"])) < pd.Timedelta(minutes=15)
        assert 1 / entry["factor"] == pytest.approx(known["ratio_median"], abs=2e-6)
        assert entry["spread_points"] == known["spread_pts_median"]
        assert entry["common_minutes"] == known["overlap_bars"]
        assert entry["max_return_change_inside_contract"] < 1e-12
    reasons = found.report["quarantined_by_reason"]
    assert set(reasons) <= {OUT_OF_SESSION, AT_CLOSE} and sum(reasons.values()) <= 80
    assert found.report["questions_to_the_calendar"] == []


def _changed_after(raw: pd.DataFrame, ts: pd.Timestamp, seed: int) -> pd.DataFrame:
    """Other valid bars from `ts` on, at the same stamps."""
    rng = np.random.default_rng(seed)
    later = (raw["ts"] >= ts).to_numpy()
    n, minute = int(later.sum()), pd.factorize(raw["ts"][later])[0]
    changed = raw.copy()
    walk = raw["close"][~later].iloc[-1] + 0.25 * np.cumsum(rng.integers(-9, 10, n + 1))
    path, close = walk[minute], walk[minute + 1]
    changed.loc[later, "open"], changed.loc[later, "close"] = path, close
    changed.loc[later, "high"] = np.maximum(path, close) + 1
    changed.loc[later, "low"] = np.minimum(path, close) - 1
    changed.loc[later, "volume"] = rng.integers(0, 5000, n)
    return changed


@pytest.mark.parametrize("cut", ["2016-09-13 15:00", "2016-09-16 14:30", "2016-09-16 21:00", "2016-09-19 02:35"])
def test_bars_up_to_a_time_are_bit_equal_whatever_comes_later(two_contracts, cut: str) -> None:
    ts = pd.Timestamp(cut, tz="UTC")
    before = build_bars(two_contracts, CONFIG).bars
    after = build_bars(_changed_after(two_contracts, ts, seed=4), CONFIG).bars
    pd.testing.assert_frame_equal(
        before[before["ts"] < ts], after[after["ts"] < ts], check_exact=True
    )  # a bar that starts at ts - 5 min ends at ts
    assert not before["close"].equals(after["close"])


@pytest.mark.parametrize("cut", ["2016-09-14 10:00", "2016-09-16 14:30", "2016-09-18 23:00", "2016-09-20 12:00"])
def test_data_added_later_leave_the_bars_before_as_they_were(two_contracts, cut: str) -> None:
    ts = pd.Timestamp(cut, tz="UTC")
    whole = build_bars(two_contracts, CONFIG).bars
    part = build_bars(two_contracts[two_contracts["ts"] < ts], CONFIG).bars
    pd.testing.assert_frame_equal(part, whole[whole["ts"] < ts].iloc[: len(part)], check_exact=True)
    assert part["ts"].iloc[-1] >= ts - 3 * SLOT

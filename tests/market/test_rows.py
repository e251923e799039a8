"""Every planted fault is quarantined with its reason, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars

CONFIG = IngestConfig()
Row = dict[str, object]

FAULTS: dict[str, Callable[[pd.Series], Row]] = {
    "price missing or not finite": lambda bar: {"open": np.nan},
    "price missing or not finite ": lambda bar: {"high": np.inf},
    "price zero or negative": lambda bar: {"low": 0.0},
    "price zero or negative ": lambda bar: {"low": -bar["low"]},
    "high below low": lambda bar: {"high": bar["low"] - 1},
    "open or close outside the range": lambda bar: {"close": bar["high"] + 0.25},
    "open or close outside the range ": lambda bar: {"open": bar["low"] - 0.25},
    "volume negative": lambda bar: {"volume": -1.0},
    "volume missing or not finite": lambda bar: {"volume": np.nan},
    "time stamp missing, ambiguous or impossible in its zone": lambda bar: {"ts": pd.NaT},
    "time stamp between the bars of its spacing": lambda bar: {"ts": bar["ts"] + pd.Timedelta(seconds=7)},
    "out of session": lambda bar: {"ts": bar["ts"].normalize() + pd.Timedelta(hours=21, minutes=30)},
    "calendar spread, not a contract": lambda bar: {"contract": "NQU6-NQZ6"},
    "contract missing": lambda bar: {"contract": ""},
}


@pytest.mark.parametrize("reason", FAULTS)
def test_a_planted_fault_is_quarantined_with_its_reason_and_the_rest_is_as_without_the_row(
    week: pd.DataFrame, reason: str
) -> None:
    row = 2500
    raw = week.astype({"volume": float})
    for name, value in FAULTS[reason](raw.loc[row]).items():
        raw.loc[row, name] = value
    found = build_bars(raw, CONFIG)
    assert found.quarantine["reason"].tolist() == [reason.strip()]
    assert found.report["quarantined_by_reason"] == {reason.strip(): 1}
    rejected = found.quarantine.drop(columns="reason").iloc[0]
    pd.testing.assert_series_equal(rejected, raw.loc[row], check_names=False, check_dtype=False)
    pd.testing.assert_frame_equal(found.bars, build_bars(week.drop(index=row), CONFIG).bars)


def test_identical_duplicates_are_dropped_and_counted(week: pd.DataFrame) -> None:
    raw = pd.concat([week, week.iloc[[5, 900, 900]]], ignore_index=True)
    found = build_bars(raw, CONFIG)
    assert found.report["duplicates_dropped"] == 3
    pd.testing.assert_frame_equal(found.bars, build_bars(week, CONFIG).bars)


def test_bars_of_one_minute_that_differ_are_an_error(week: pd.DataFrame) -> None:
    raw = pd.concat([week, week.iloc[[900]].assign(volume=12345)], ignore_index=True)
    with pytest.raises(ValueError, match=r"one bar per minute and contract, found 1 that differ.*remove one"):
        build_bars(raw, CONFIG)


def test_two_contracts_in_one_minute_are_no_duplicates(two_contracts: pd.DataFrame) -> None:
    assert two_contracts["ts"].duplicated().sum() > 1000
    assert build_bars(two_contracts, CONFIG).report["duplicates_dropped"] == 0
    with pytest.raises(ValueError, match="add the contract column"):
        build_bars(two_contracts.drop(columns="contract"), CONFIG)


def test_rows_in_any_order_give_the_same_bars_and_the_disorder_is_counted(two_contracts: pd.DataFrame) -> None:
    shuffled = two_contracts.sample(frac=1, random_state=2)
    found = build_bars(shuffled, CONFIG)
    ordered = build_bars(two_contracts, CONFIG)
    pd.testing.assert_frame_equal(found.bars, ordered.bars)
    assert found.roll_ledger == ordered.roll_ledger
    assert found.report["rows_out_of_order"] > 1000 and ordered.report["rows_out_of_order"] == 0


def test_ingest_stops_where_too_large_a_share_is_rejected(week: pd.DataFrame) -> None:
    raw = week.copy()
    raw.loc[raw.index % 50 == 0, "low"] = -1.0
    with pytest.raises(
        ValueError, match=r"at most 1\.0% of the rows.*price zero or negative: \d+.*max_quarantined_share"
    ):
        build_bars(raw, CONFIG)
    assert len(build_bars(raw, IngestConfig(max_quarantined_share=0.03)).quarantine) == (raw["low"] < 0).sum()

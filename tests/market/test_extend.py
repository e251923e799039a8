"""Files of bars that follow each other make the grid, and so the features, of one file."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import FEATURES, TARGETS
from nqcast.data.features import build_features
from nqcast.market.config import IngestConfig
from nqcast.market.extend import extended
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """Sixty sessions of simulated one-minute bars, over a roll."""
    return simulate(SimulationConfig(sessions=60, seed=7))


@pytest.fixture(scope="module")
def whole(raw: pd.DataFrame) -> pd.DataFrame:
    return build_bars(raw, IngestConfig()).bars


def grid(raw: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    return build_bars(raw[(raw["ts"] >= first) & (raw["ts"] < last)], IngestConfig()).bars


@pytest.mark.parametrize("overlap_sessions", [0, 1, 20])
def test_two_files_are_one(
    raw: pd.DataFrame, whole: pd.DataFrame, overlap_sessions: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Cut in the middle of a session; the second file begins there, a session earlier, or before the roll."""
    starts = whole.loc[whole["session"] != whole["session"].shift(), "ts"].reset_index(drop=True)
    cut = starts.iloc[-4] + pd.Timedelta(hours=9)
    begin = cut if not overlap_sessions else starts.iloc[-4 - overlap_sessions] + pd.Timedelta(hours=3)
    end = raw["ts"].iloc[-1] + pd.Timedelta(minutes=1)
    joined = extended(grid(raw, raw["ts"].iloc[0], cut), grid(raw, begin, end), IngestConfig())
    assert (joined["ts"] == whole["ts"]).all() and (joined["traded"] == whole["traded"]).all()
    for name in ("close", "raw_close", "gap_minutes", "realized_variance"):
        np.testing.assert_allclose(joined[name], whole[name], rtol=1e-9)
    assert "no bars of" not in caplog.text and "passed over" not in caplog.text
    left, right = build_features(joined), build_features(whole)
    for name in (*FEATURES, *TARGETS):
        np.testing.assert_allclose(left[name], right[name], rtol=1e-6, atol=1e-9, equal_nan=True, err_msg=name)


def test_bars_that_are_there_already_change_nothing(raw: pd.DataFrame, whole: pd.DataFrame) -> None:
    again = grid(raw, raw["ts"].iloc[-8000], raw["ts"].iloc[-1] + pd.Timedelta(minutes=1))
    assert extended(whole, again, IngestConfig()) is whole


def test_another_contract_without_a_common_bar_leaves_its_return_out(raw: pd.DataFrame, whole: pd.DataFrame) -> None:
    start = whole.loc[whole["session"] != whole["session"].shift(), "ts"].iloc[-5]
    other = whole[whole["ts"] >= start].assign(contract="209912").reset_index(drop=True)
    other[["open", "high", "low", "close", "raw_close"]] *= 1.5
    joined = extended(whole[whole["ts"] < start], other, IngestConfig())
    row = int((joined["ts"] == start).to_numpy().argmax())
    assert joined["unadjusted"].iloc[row] and not joined["unadjusted"].iloc[row + 1 :].any()
    assert build_features(joined)["open_return"].iloc[row] == 0


def test_a_file_of_another_kind_is_refused(whole: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"found \['volume'\] in one of them alone"):
        extended(whole, whole.drop(columns="volume"), IngestConfig())


def test_sessions_left_out_are_named_and_bars_that_come_late_too(
    raw: pd.DataFrame, whole: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    starts = whole.loc[whole["session"] != whole["session"].shift(), "ts"].tolist()
    before, between, after = (
        grid(raw, a, b)
        for a, b in zip([starts[0], starts[-6], starts[-3]], [starts[-6], starts[-3], raw["ts"].iloc[-1]], strict=True)
    )
    with caplog.at_level(logging.WARNING):
        joined = extended(before, after, IngestConfig())
        assert "no bars of 3 sessions, " in caplog.text and "come after later" not in caplog.text
        assert extended(joined, between, IngestConfig()) is joined
    assert f"{between['traded'].sum()} bars from {between['ts'].iloc[0]:%Y-%m-%d %H:%M} to " in caplog.text

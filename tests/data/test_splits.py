"""The splits: no window holds a bar that an earlier split has touched, and what cannot be split is refused."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from nqcast.constants import TARGETS
from nqcast.data.config import SplitConfig
from nqcast.data.splits import check_no_overlap, label_end, make_splits, positions

_SMALL = {"context": 288, "embargo_bars": 288, "warmup_bars": 300}


def tiny_table(n: int = 40, per_session: int = 10) -> pd.DataFrame:
    """Forty bars in four sessions whose only defined target is the 15-minute one (three bars)."""
    row = np.arange(n)
    table = pd.DataFrame(
        {
            "ts": pd.date_range("2020-01-06", periods=n, freq="5min", tz="UTC").as_unit("ns"),
            "session": np.repeat(pd.bdate_range("2020-01-06", periods=n // per_session).to_numpy(), per_session),
            "traded": True,
            "halt": False,
            **dict.fromkeys(TARGETS, np.nan),
        }
    )
    table["target_15m"] = np.where(row % per_session < per_session - 3, 0.001, np.nan)
    return table


def test_a_hand_made_example_keeps_exactly_these_anchors():
    config = SplitConfig(
        validation_start=dt.date(2020, 1, 8), test_start=dt.date(2020, 1, 9), context=4, embargo_bars=4, warmup_bars=5
    )
    splits = make_splits(tiny_table(), config)
    # Test begins at row 30, whose window is rows 27–30: validation labels must end by row 26, so its anchors by 23.
    assert positions(splits, "test").tolist() == [30, 31, 32, 33, 34, 35, 36]
    assert positions(splits, "validation").tolist() == [20, 21, 22, 23]
    # Validation's first window is rows 17–20: train labels end by row 16.
    assert positions(splits, "train").tolist() == [5, 6, 10, 11, 12, 13]


def test_the_check_raises_when_one_anchor_is_moved_too_close():
    table = tiny_table()
    config = SplitConfig(
        validation_start=dt.date(2020, 1, 8), test_start=dt.date(2020, 1, 9), context=4, embargo_bars=4, warmup_bars=5
    )
    splits = make_splits(table, config)
    check_no_overlap(table, splits, 4)
    late = pd.DataFrame({"position": [14], "ts": table["ts"][[14]], "session": table["session"][[14]],
                         "split": "train"})  # fmt: skip
    with pytest.raises(ValueError, match="to begin after the last bar that train touches"):
        check_no_overlap(table, pd.concat([splits, late]), 4)
    with pytest.raises(ValueError, match="to begin after"):
        check_no_overlap(table, splits, 5)
    with pytest.raises(ValueError, match="each anchor in one split"):
        check_no_overlap(table, pd.concat([splits, splits.iloc[:1]]), 4)
    with pytest.raises(ValueError, match="time stamps of these features"):
        check_no_overlap(table.assign(ts=table["ts"] + pd.Timedelta(minutes=5)), splits, 4)


def test_no_later_window_holds_a_bar_that_an_earlier_split_touched(features):
    splits = make_splits(features, SplitConfig(**_SMALL))
    touched: set[int] = set()
    for name in ("train", "validation", "test"):
        anchors = positions(splits, name)
        windows = {row for p in anchors for row in range(p - 287, p + 1)}
        labels = {p + k for h, k in zip(TARGETS, (3, 6, 12, 24, 48), strict=True)
                  for p in anchors if np.isfinite(features[h][p])}  # fmt: skip
        assert not touched & windows
        touched |= windows | labels


def test_anchors_are_traded_bars_outside_the_halt_with_a_window_and_a_target(features):
    splits = make_splits(features, SplitConfig(**_SMALL))
    rows = features.iloc[splits["position"]]
    assert rows["traded"].all() and not rows["halt"].any()
    assert rows[list(TARGETS)].notna().any(axis=1).all()
    assert splits["position"].min() >= 300
    assert (rows["ts"].to_numpy() == splits["ts"].to_numpy()).all()
    inside = features["traded"] & ~features["halt"] & features[list(TARGETS)].notna().any(axis=1)
    last_session = features["session"] == features["session"].iloc[-1]
    assert (splits["session"] == features["session"].iloc[-1]).sum() == (inside & last_session).sum()


def test_fractions_divide_the_sessions_that_have_anchors(features):
    splits = make_splits(features, SplitConfig(**_SMALL))
    usable = features["session"].iloc[300:].nunique()
    test_sessions = splits.loc[splits["split"] == "test", "session"].nunique()
    assert abs(test_sessions - 0.15 * usable) <= 1
    ordered = splits["position"].to_numpy()
    assert (np.diff(ordered) > 0).all()


def test_dates_are_trading_dates_and_later_splits_begin_on_them(features):
    config = SplitConfig(validation_start=dt.date(2016, 3, 21), test_start=dt.date(2016, 3, 28),
                         test_end=dt.date(2016, 4, 1), **_SMALL)  # fmt: skip
    splits = make_splits(features, config)
    sessions = splits.groupby("split")["session"].agg(["min", "max"]).astype(str)
    assert sessions.loc["validation", "min"] == "2016-03-21"
    assert tuple(sessions.loc["test"]) == ("2016-03-28", "2016-04-01")
    first = features.index[features["session"] == "2016-03-28"][0]
    assert positions(splits, "test")[0] - first <= 3  # the first bars of the session, whichever traded


def test_the_label_of_a_row_ends_with_its_longest_defined_horizon():
    table = tiny_table(n=20, per_session=20)
    table.loc[2, "target_60m"] = 0.01
    assert label_end(table)[:4].tolist() == [3, 4, 14, 6]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0.8}, "sum to 1"),
        ({"embargo_bars": 10}, "of at least the context"),
        ({"validation_start": dt.date(2016, 3, 1)}, "validation_start and test_start to split by dates"),
        ({"validation_start": dt.date(2016, 3, 1), "test_start": dt.date(2016, 2, 1)}, "time order"),
        ({"valdation": 0.2}, "Extra inputs"),
    ],
)
def test_a_split_that_cannot_be_meant_is_refused(arguments, message):
    with pytest.raises(ValidationError, match=message):
        SplitConfig(**arguments)


def test_dates_outside_the_data_and_too_few_rows_are_refused(features):
    config = SplitConfig(validation_start=dt.date(2016, 3, 21), test_start=dt.date(2019, 3, 28), **_SMALL)
    with pytest.raises(ValueError, match=r"test_start within the data \(2016-02-22 to 2016-04-08\), found"):
        make_splits(features, config)
    with pytest.raises(ValueError, match="none"):
        make_splits(features.iloc[:2000], SplitConfig())
    with pytest.raises(ValueError, match="give more bars"):
        make_splits(features.iloc[:700], SplitConfig(**_SMALL))
    with pytest.raises(ValueError, match="expected a split among"):
        positions(make_splits(features, SplitConfig(**_SMALL)), "valid")

"""Forecasts of anyone's making: read as they are meant, or refused with what is wrong."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS
from nqcast.data.config import SplitConfig
from nqcast.data.splits import make_splits, positions
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.given_forecasts import anchors_held, as_predictions, checked_levels, score_given
from nqcast.evaluation.split_uses import use_by_file
from nqcast.spacing import Spacing

from .conftest import Market

NAMES = ["q05", "q10", "q25", "q50", "q75", "q90", "q95"]
Frames = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]


@pytest.fixture(scope="module")
def frames(market: Market) -> Frames:
    """Features, splits, and a file of forecasts at the test anchors: sorted draws of a normal law."""
    features = market(60)
    splits = make_splits(features, SplitConfig(warmup_bars=300))
    test = positions(splits, "test")
    rows = features.loc[np.repeat(test, len(HORIZONS)), ["ts"]].reset_index(drop=True)
    rows["horizon"] = np.tile(list(HORIZONS), len(test))
    values = np.sort(np.random.default_rng(0).normal(scale=1e-3, size=(len(rows), len(LEVELS))), axis=1)
    return features, splits, rows.assign(**dict(zip(NAMES, values.T, strict=True)))


def test_rows_in_any_order_stamps_of_the_issue_and_prices_mean_the_same(frames: Frames) -> None:
    features, splits, rows = frames
    expected = as_predictions(rows, features, splits, "log_return")
    np.testing.assert_array_equal(expected[NAMES], rows[NAMES])
    shuffled = rows.sample(frac=1.0, random_state=1)
    pd.testing.assert_frame_equal(as_predictions(shuffled, features, splits, "log_return"), expected)
    issued = rows.assign(issue_time=(rows["ts"] + pd.Timedelta(minutes=5)).dt.strftime("%Y-%m-%d %H:%M")).drop(
        columns="ts"
    )
    pd.testing.assert_frame_equal(as_predictions(issued, features, splits, "log_return"), expected)
    price = features.set_index("ts").loc[rows["ts"], "raw_close"].to_numpy()[:, None]
    priced = rows.assign(**dict(zip(NAMES, (price * np.exp(rows[NAMES].to_numpy())).T, strict=True)))
    found = as_predictions(priced, features, splits, "price")
    np.testing.assert_allclose(found[NAMES], expected[NAMES], atol=1e-12)


def test_outcomes_come_from_the_features_whatever_the_file_says(frames: Frames) -> None:
    features, splits, rows = frames
    found = as_predictions(rows.assign(target=rows["q50"], scale=5.0), features, splits, "log_return")
    assert found["target"].equals(as_predictions(rows, features, splits, "log_return")["target"])
    anchor = positions(splits, "test")[7]
    assert found["target"].iloc[35] == features["target_15m"].iloc[anchor]


def test_levels_are_the_digits_behind_the_point() -> None:
    columns = ["ts", "q975", "q50", "q025", "quality", "q5"]
    assert checked_levels(pd.DataFrame(columns=columns)) == {0.025: "q025", 0.5: "q50", 0.975: "q975"}


def worse(rows: pd.DataFrame) -> pd.DataFrame:
    rows.loc[3, "q10"] = np.inf
    return rows


@pytest.mark.parametrize(
    ("change", "values", "complaint"),
    [
        (lambda r: r.drop(columns="horizon"), "log_return", r"found no \['horizon'\]"),
        (lambda r: r.drop(columns="ts"), "log_return", r"found no \['ts'\]"),
        (lambda r: r.drop(columns="q50"), "log_return", "with the median"),
        (lambda r: r.iloc[1:], "log_return", "each anchor once with each of the horizons"),
        (lambda r: pd.concat([r, r.iloc[:5]]), "log_return", "each anchor once with each of the horizons"),
        (lambda r: r.assign(horizon=r["horizon"].replace("4h", "3h")), "log_return", "'3h'"),
        (lambda r: r.assign(ts="yesterday, or so"), "log_return", "time stamps in ts"),
        (lambda r: r.assign(ts=r["ts"] + pd.Timedelta(days=400)), "log_return", "no bar at which forecasts are scored"),
        (worse, "log_return", "none in 1 of them"),
        (lambda r: r.iloc[:0], "log_return", "the names of the columns alone"),
        (lambda r: r.assign(**{n: 10_000 * r[n] for n in NAMES}), "log_return", "divide percent by 100"),
        (lambda r: r.assign(**{n: 4800 + r[n] for n in NAMES}), "log_return", "score_file.values=price"),
        (lambda r: r, "price", "price above 0"),
    ],
)
def test_what_is_no_file_of_forecasts_is_refused(
    change: Callable[[pd.DataFrame], pd.DataFrame], values: str, complaint: str, frames: Frames
) -> None:
    features, splits, rows = frames
    with pytest.raises(ValueError, match=complaint):
        as_predictions(change(rows.copy()), features, splits, values)


def test_the_unit_of_a_single_anchor_is_known_by_the_market(frames: Frames) -> None:
    features, splits, rows = frames
    assert len(as_predictions(rows.iloc[:5], features, splits, "log_return")) == 5
    with pytest.raises(ValueError, match="divide percent by 100"):
        as_predictions(rows.iloc[:5].assign(**{n: 1_000 * rows[n] for n in NAMES}), features, splits, "log_return")


def test_anchors_that_train_the_baselines_are_refused(frames: Frames) -> None:
    features, splits, rows = frames
    train = features["ts"].iloc[positions(splits, "train")[: len(rows) // 5]]
    with pytest.raises(ValueError, match="trains the baselines"):
        as_predictions(rows.assign(ts=np.repeat(train.array, 5)), features, splits, "log_return")


def test_the_verdict_says_how_much_of_the_test_split_was_chosen(frames: Frames) -> None:
    features, splits, rows = frames
    kept = as_predictions(rows.iloc[: 5 * (len(rows) // 10)], features, splits, "log_return")
    scored, of = anchors_held(kept, splits)["test"]
    assert scored == len(rows) // 10 and of == len(rows) // 5
    config = EvaluateConfig(bootstrap_replications=100, baselines=("constants", "seasonal_har"))
    scores = score_given(kept, splits, features, None, 3, config)
    assert f"{scored:,} of the {of:,} test anchors (50%)" in scores["text"]
    assert set(scores["table"]) == {"constants", "seasonal_har", "model"}
    assert scores["gains"]["seasonal_har"]["mean"]["high"] < 0  # draws of a law that knows nothing are worse


def test_a_misspelt_level_is_named_and_crossed_quantiles_are_counted(
    frames: Frames, caplog: pytest.LogCaptureFixture
) -> None:
    features, splits, rows = frames
    as_predictions(rows, features, splits, "log_return")
    assert not caplog.records
    as_predictions(rows.rename(columns={"q05": "p5"}), features, splits, "log_return")
    assert "not read: ['p5']; the levels are ['q10'" in caplog.text
    crossed = rows.copy()
    crossed.loc[[3, 8, 9], ["q05", "q10"]] = rows.loc[[3, 8, 9], ["q10", "q05"]].to_numpy()
    config = EvaluateConfig(bootstrap_replications=100, baselines=("constants",))
    for given, said in (
        (crossed, f"In 3 of {len(rows):,} rows a quantile lies above one of a higher level"),
        (rows, ""),
    ):
        text = score_given(as_predictions(given, features, splits, "log_return"), splits, features, None, 0, config)[
            "text"
        ]
        assert said in text and ("higher level" in text) == bool(said)
        assert max(map(len, text.splitlines())) <= 80


def test_a_use_of_the_test_split_is_told_and_one_of_validation_is_none(frames: Frames) -> None:
    features, _, rows = frames
    assert use_by_file(rows, features, 0) == {}
    use = use_by_file(rows, features, 12)
    assert (
        use["anchors"] == 12
        and use["data"] != use["configuration"] != use_by_file(rows[1:], features, 12)["configuration"]
    )


@pytest.mark.parametrize("every", [12, 276])
def test_the_truth_is_asked_at_the_spacing_of_the_bars_however_sparse_the_file(every: int, frames: Frames) -> None:
    features, splits, rows = frames
    ts = rows["ts"].drop_duplicates()
    kept = as_predictions(rows[rows["ts"].isin(ts.iloc[::every])], features, splits, "log_return")
    asked = []

    class Truth:
        def quantiles_at(self, ts: pd.Series, *_: object, spacing: Spacing, **__: object) -> pd.DataFrame:
            asked.append(spacing)
            return kept[kept["ts"].isin(ts)]

    config = EvaluateConfig(bootstrap_replications=100, baselines=("constants", "seasonal_har"))
    score_given(kept, splits, features, Truth(), 0, config)
    assert asked == [Spacing(5)]

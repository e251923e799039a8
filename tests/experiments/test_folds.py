"""Folds: stretches that touch and end with the data, lengths as asked, nothing of train inside validation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from nqcast.data.config import SplitConfig
from nqcast.data.splits import anchor_mask, label_end, make_splits, positions
from nqcast.experiments.config import WalkForwardConfig
from nqcast.experiments.folds import plan_folds

SPLIT = SplitConfig()


def config(**changes: object) -> WalkForwardConfig:
    return WalkForwardConfig(
        **{"folds": 4, "train_sessions": 8, "validation_sessions": 4, "test_sessions": 5, **changes}
    )


def usable_sessions(features: pd.DataFrame) -> list[pd.Timestamp]:
    return sorted(features.loc[anchor_mask(features, SPLIT), "session"].unique())


def test_out_of_sample_stretches_follow_each_other_and_end_with_the_data(features: pd.DataFrame) -> None:
    forecast = []
    for fold in plan_folds(features, SPLIT, config()):
        test = positions(make_splits(features, fold.split), "test")
        sessions = sorted(features["session"].iloc[test].unique())
        assert len(sessions) == 5
        forecast.append(test)
    assert all(a[-1] < b[0] for a, b in pairwise(forecast))
    expected = np.flatnonzero(anchor_mask(features, SPLIT) & features["session"].isin(usable_sessions(features)[-20:]))
    assert (np.concatenate(forecast) == expected).all()


def test_no_label_of_train_ends_after_validation_begins_and_no_window_reaches_back(features: pd.DataFrame) -> None:
    ends = label_end(features)
    for fold in plan_folds(features, SPLIT, config()):
        splits = make_splits(features, fold.split)
        train, validation, test = (positions(splits, name) for name in ("train", "validation", "test"))
        first = features["ts"].iloc[validation[0]]
        assert features["ts"].iloc[ends[train].max()] < first
        assert ends[train].max() < validation[0] - SPLIT.context + 1
        assert ends[validation].max() < test[0] - SPLIT.context + 1
        assert features["session"].iloc[train].max() < pd.Timestamp(fold.dates["validation_start"])


def test_rolling_folds_train_on_so_many_sessions_and_expanding_ones_on_all_before(features: pd.DataFrame) -> None:
    rolling, growing = (plan_folds(features, SPLIT, config(mode=mode)) for mode in ("rolling", "expanding"))
    sessions = usable_sessions(features)
    for fold in rolling:
        train = positions(make_splits(features, fold.split), "train")
        # the embargo takes the last session or two before validation
        assert 6 <= features["session"].iloc[train].nunique() <= 8
        start, validation = (sessions.index(pd.Timestamp(fold.dates[f"{n}_start"])) for n in ("train", "validation"))
        assert validation - start == 8
    assert {fold.dates["train_start"] for fold in growing} == {str(pd.Timestamp(sessions[0]).date())}
    assert [fold.dates["test_start"] for fold in growing] == [fold.dates["test_start"] for fold in rolling]


def test_too_few_sessions_are_refused_with_the_number_that_is_needed(features: pd.DataFrame) -> None:
    have = len(usable_sessions(features))
    needed = 12 + 5 * (have // 5)
    with pytest.raises(ValueError, match=rf"expected at least {needed} sessions .* found {have}"):
        plan_folds(features, SPLIT, config(folds=have // 5))

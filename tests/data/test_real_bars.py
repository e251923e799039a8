"""What the classical model must reach on real bars, on the dates that conf/nq uses."""

import datetime as dt

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import LEVELS, TARGETS
from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.seasonal_har import SeasonalHAR
from nqcast.data.splits import make_splits, positions
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.vendor import read_bars

_DATES = SplitConfig(validation_start=dt.date(2016, 5, 17), test_start=dt.date(2016, 8, 3))


@pytest.fixture(scope="module")
def real_features(real_data) -> pd.DataFrame:
    return build_features(build_bars(read_bars(real_data / "nq_1m_2015-06_2016-12.parquet"), IngestConfig()).bars)


def mean_pinball(y_NH: np.ndarray, q_NHQ: np.ndarray) -> np.ndarray:
    """Mean over anchors and levels, (H,)."""
    error = y_NH[:, :, None] - q_NHQ
    return np.nanmean(np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error), axis=(0, 2))


def test_the_splits_of_the_real_bars_are_those_of_the_trials(real_features):
    splits = make_splits(real_features, _DATES)
    span = splits.groupby("split")["session"].agg(["min", "max"])
    assert span.loc["train", "max"] < pd.Timestamp("2016-05-15")
    assert span.loc["validation", "min"] == pd.Timestamp("2016-05-17")
    assert span.loc["test", "min"] == pd.Timestamp("2016-08-03")
    defined = real_features["target_15m"].iloc[positions(splits, "test")].notna().sum()
    assert abs(defined - 24_400) < 100


def test_seasonal_har_reaches_its_skill_on_real_bars(real_features):
    splits = make_splits(real_features, _DATES)
    train, test = positions(splits, "train"), positions(splits, "test")
    y_NH = real_features[list(TARGETS)].to_numpy()
    test = test[np.isfinite(y_NH[test, 0])]
    constant_HQ = np.nanquantile(y_NH[train], LEVELS, axis=0).T
    base_H = mean_pinball(y_NH[test], np.broadcast_to(constant_HQ, (len(test), *constant_HQ.shape)))
    skill = {}
    for predictors in ("realized", "returns"):
        scale = SeasonalHAR(ScaleConfig(predictors=predictors)).fit(real_features, train)
        loss_H = mean_pinball(y_NH[test], scale.unit_quantiles_HQ * scale.transform(real_features)[test][:, :, None])
        skill[predictors] = 100 * (1 - loss_H / base_H)
        if predictors == "realized":
            assert (loss_H <= np.array([1.48e-4, 2.12e-4, 3.11e-4, 4.72e-4, 7.17e-4])).all()
    assert (skill["realized"] >= np.array([19.0, 18.4, 17.4, 16.6, 15.5])).all()
    assert skill["realized"].mean() >= 17.5
    assert (skill["realized"] - skill["returns"] >= 0.3)[:2].all()

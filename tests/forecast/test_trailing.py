"""A forecast from a few weeks of bars is the one scored from all of them, by the rows that its checkpoint keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS
from nqcast.data.config import ScaleConfig
from nqcast.data.splits import anchor_rows
from nqcast.data.trailing import behind, trailing_rows
from nqcast.evaluation.calibration import calibrated_quantiles, fit_calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import ONLINE, as_arrays
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.predictor import checked_config, load_scale, predict, predict_frame
from nqcast.forecast.text import forecast_text
from nqcast.storage.checkpoint import Checkpoint

from .conftest import random_checkpoint

SCALE = ScaleConfig(rolling_quantiles=True, rolling_sessions=30, long_memory=True)


@pytest.fixture(scope="module")
def bare(features: pd.DataFrame) -> Checkpoint:
    return random_checkpoint(features, SCALE)


@pytest.fixture(scope="module")
def keeping(bare: Checkpoint, features: pd.DataFrame) -> Checkpoint:
    """With the rows up to ten sessions before the end."""
    first = features.loc[features["session_first"], "ts"].iloc[-10]
    earlier = features[features["ts"] < first]
    return bare.with_trailing(trailing_rows(earlier, load_scale(bare).config))


def newest(features: pd.DataFrame, sessions: int) -> pd.DataFrame:
    """The latest sessions of the table, from a bar within the first of them on."""
    first = np.flatnonzero(features["session_first"].to_numpy(bool))[-sessions]
    rows = features.iloc[first + 50 :].reset_index(drop=True)
    rows.loc[0, "session_first"] = True  # as in a table that begins there
    return rows


def test_kept_rows_give_the_forecast_that_all_bars_give(
    bare: Checkpoint, keeping: Checkpoint, features: pd.DataFrame
) -> None:
    whole = predict(bare, features, np.array([len(features) - 1]))[0][0]
    for sessions in (21, 11):  # the rows end ten sessions before the end
        short = newest(features, sessions)
        with_rows, without = (Forecaster(one).quantiles(short) for one in (keeping, bare))
        np.testing.assert_allclose(with_rows, whole, rtol=2e-5)
        assert np.abs(without / whole - 1).max() > 0.02, "the rows matter"


def test_only_rows_that_lie_before_the_bars_are_put_before_them(keeping: Checkpoint, features: pd.DataFrame) -> None:
    kept = keeping.trailing
    joined, moved = behind(newest(features, 21), kept, 288)
    assert (joined["ts"].to_numpy() == features["ts"].to_numpy()[-len(joined) :]).all()
    assert moved == len(joined) - len(newest(features, 21))
    for name in kept.keys() - {"ts", "session"}:
        np.testing.assert_allclose(
            joined[name].to_numpy(float), features[name].to_numpy(float)[-len(joined) :], rtol=1e-6, equal_nan=True
        )
    assert behind(features, kept, 288) == (features, 0), "all is known already"
    later = newest(features, 3).assign(ts=lambda frame: frame["ts"] + pd.Timedelta(days=60))
    assert behind(later, kept, 288)[1] == 0, "two months later the market is another"


def test_a_sweep_issues_at_the_same_bars_what_was_scored(
    bare: Checkpoint, keeping: Checkpoint, features: pd.DataFrame
) -> None:
    short, config = newest(features, 21), ForecastConfig(min_bars=5000)
    swept = pd.concat(Forecaster(keeping, config=config).sweep_table(short))
    plain = pd.concat(Forecaster(bare, config=config).sweep_table(short))
    assert (swept["ts"] == plain["ts"]).all()
    rows = np.flatnonzero(features["ts"].isin(swept["ts"]).to_numpy())
    scored = predict_frame(bare, features, rows)
    np.testing.assert_allclose(swept["q95"], scored["q95"], rtol=2e-5)


def test_weights_are_the_same_with_other_rows_and_half_rows_are_refused(
    bare: Checkpoint, keeping: Checkpoint, features: pd.DataFrame
) -> None:
    assert keeping.weights_sha256 == bare.weights_sha256
    assert keeping.with_trailing({}).tensors.keys() == bare.tensors.keys()
    lost = {name: array[:-1] if name == "trailing.halt" else array for name, array in keeping.tensors.items()}
    with pytest.raises(ValueError, match="expected the kept rows of the latest sessions"):
        checked_config(replace(keeping, tensors=lost))


def test_the_online_row_is_the_scored_one_and_a_short_history_says_so(
    bare: Checkpoint, keeping: Checkpoint, raw: pd.DataFrame, features: pd.DataFrame
) -> None:
    """Validation ends two sessions before the end; the outcomes since move the online offsets."""
    rows = np.flatnonzero(anchor_rows(features, 288, 8000))
    starts = np.flatnonzero(features["session_first"].to_numpy(bool))
    fitted_on, since = rows[rows < starts[-2]], rows[rows >= starts[-2]]
    levels = bare.metadata.quantiles
    validation = as_arrays(predict_frame(bare, features, fitted_on), levels, tuple(HORIZONS))
    calibration = fit_calibration(validation, bare, EvaluateConfig())
    as_of = features["ts"].iloc[since[-30]] + pd.Timedelta(minutes=5)
    short = raw[raw["ts"] >= features["ts"].iloc[starts[-22]]]
    config = ForecastConfig(as_of=as_of.to_pydatetime())
    issued = Forecaster(keeping, calibration, config).issue(short)
    test = as_arrays(predict_frame(bare, features, since), levels, tuple(HORIZONS))
    expected = calibrated_quantiles(test, calibration, bare.weights_sha256)[ONLINE][-30]
    found = issued.forecast["return_quantile_online"].to_numpy().reshape(expected.shape)
    np.testing.assert_allclose(found, np.where(np.isfinite(found), expected, np.nan), rtol=3e-5)
    assert np.isfinite(found).any()
    assert np.abs(found - issued.forecast["return_quantile"].to_numpy().reshape(found.shape))[0].max() > 1e-6
    assert "Calibrated online, by the outcomes since validation, q05 to q95: 15m" in forecast_text(issued)
    alone = Forecaster(bare, calibration, config).issue(short)
    assert alone.short_of == 22 and "hold 22 sessions, fewer than" in " ".join(forecast_text(alone).split())
    before = Forecaster(bare, calibration, replace_as_of(config, features["ts"].iloc[fitted_on[-400]])).issue(raw)
    assert before.forecast["return_quantile_online"].isna().all(), "what came after may not move it"


def replace_as_of(config: ForecastConfig, ts: pd.Timestamp) -> ForecastConfig:
    return config.model_copy(update={"as_of": (ts + pd.Timedelta(minutes=5)).to_pydatetime()})

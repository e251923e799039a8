"""A sweep forecasts every bar of a history as `forecast` would have done at that bar, in memory that does not grow."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS, TARGETS
from nqcast.evaluation.calibration import Calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.freshness import ForecastRefusedError
from nqcast.forecast.predictor import predict_frame

Checkpoint = dict[str, Any]
NAMES = [f"q{round(100 * tau):02d}" for tau in LEVELS]
LATE = 14_000  # bars before the first anchor: the last few sessions are enough to look at


@pytest.fixture(scope="module")
def calibration(plain_checkpoint: Checkpoint) -> Calibration:
    state = ConformalCalibration(LEVELS, tuple(HORIZONS), plain_checkpoint.weights_sha256).state()
    return Calibration.from_json(state | {"offsets": np.linspace(-0.1, 0.1, 35).reshape(5, 7).tolist()})


def test_a_sweep_says_at_each_bar_what_a_forecast_there_would_have_said(
    raw: pd.DataFrame, checkpoint: Checkpoint, calibration: Calibration
) -> None:
    swept = pd.concat(Forecaster(checkpoint, calibration, ForecastConfig(min_bars=LATE)).sweep(raw))
    ts = swept["ts"].drop_duplicates().iloc[123]
    config = ForecastConfig(as_of=ts + pd.Timedelta(minutes=5))
    alone = Forecaster(checkpoint, calibration, config).forecast(raw)
    expected = alone["return_quantile"].to_numpy().reshape(len(HORIZONS), len(LEVELS))
    defined = np.isfinite(expected).all(axis=1)
    assert defined.any()
    found = swept.loc[swept["ts"] == ts, NAMES].to_numpy()
    np.testing.assert_allclose(found[defined], expected[defined], rtol=1e-5)


def test_without_calibration_a_sweep_is_the_evaluation_of_the_same_anchors(
    features: pd.DataFrame, checkpoint: Checkpoint
) -> None:
    swept = next(iter(Forecaster(checkpoint, config=ForecastConfig(min_bars=LATE)).sweep_table(features)))
    positions = pd.Index(features["ts"]).get_indexer(pd.Index(swept["ts"].iloc[:: len(HORIZONS)]))
    assert positions.min() >= LATE and len(positions) > 500
    plain = predict_frame(checkpoint, features, positions, EvaluateConfig(device="cpu"))
    pd.testing.assert_frame_equal(swept, plain, rtol=1e-5, atol=1e-9)


def test_every_anchor_comes_once_and_chunks_change_nothing(
    features: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    model = Forecaster(plain_checkpoint, config=ForecastConfig(min_bars=LATE))
    parts = list(model.sweep_table(features, chunk=100))
    assert all(len(part) == 500 for part in parts[:-1])
    joined = pd.concat(parts, ignore_index=True)
    tradeable = features["traded"] & ~features["halt"] & features[list(TARGETS)].notna().any(axis=1)
    expected = features.loc[tradeable & (features.index >= LATE), "ts"]
    assert joined["ts"].iloc[::5].tolist() == expected.tolist()
    pd.testing.assert_frame_equal(joined, next(iter(model.sweep_table(features))), rtol=1e-5, atol=1e-9)


def test_too_short_a_history_is_refused_before_anything_is_forecast(
    raw: pd.DataFrame, plain_checkpoint: Checkpoint
) -> None:
    with pytest.raises(ForecastRefusedError, match="bring a longer history"):
        Forecaster(plain_checkpoint, config=ForecastConfig(min_bars=30_000)).sweep(raw)


_RESIDENT = """
import resource, sys
import numpy as np
from tests.forecast.conftest import random_checkpoint
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.checkpoint import Checkpoint

features = build_features(build_bars(simulate(SimulationConfig(sessions=60, seed=7)), IngestConfig()).bars)
checkpoint = random_checkpoint(features, ScaleConfig())

def peak_after(min_bars):
    forecaster = Forecaster(checkpoint, config=ForecastConfig(min_bars=min_bars))
    rows = sum(len(part) for part in forecaster.sweep_table(features, 512))
    return rows, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

few, before = peak_after(len(features) - 1500)
many, after = peak_after(1000)
print(few, many, after - before)
"""


@pytest.mark.slow
def test_the_process_grows_by_far_less_than_what_ten_times_the_anchors_would_fill() -> None:
    done = subprocess.run([sys.executable, "-c", _RESIDENT], capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    few, many, growth = map(int, done.stdout.split())
    assert many > 9 * few
    assert growth < 0.5 * (many - few) * 12 * 8  # rows of twelve numbers

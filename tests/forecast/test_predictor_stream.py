"""Forecasts of many anchors stream: the same rows as in one piece, whatever the chunk, in memory that does not grow."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version
from tests.forecast.test_predictor import ANCHORS, HORIZONS, LEVELS, TRAIN, checkpoint_of

from nqcast.constants import CLOCK
from nqcast.data.seasonal_har import SeasonalHAR
from nqcast.datasets import VerifiedDataset
from nqcast.evaluation.calibration import Calibration, calibrated_frame, calibrated_frames
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.forecast.predictor import predict, predict_frame, predict_stream

WIDE = np.concatenate([TRAIN[-30:], ANCHORS])  # across sessions: each has rolling quantiles of its own


@pytest.fixture(scope="module")
def features(market: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = market(36)
    return frame.assign(**{name: 1 + np.arange(len(frame)) % 5 for name in CLOCK if name not in frame})


@pytest.mark.parametrize("scale", [{}, {"rolling_quantiles": True, "rolling_sessions": 5}], ids=["train", "rolling"])
@pytest.mark.parametrize("chunk", [7, 64])
def test_chunks_of_any_size_join_to_the_frame_that_is_made_at_once(
    features: pd.DataFrame, scale: dict[str, object], chunk: int
) -> None:
    checkpoint = checkpoint_of(features, noise=0.1, **scale)
    stream = predict_stream(checkpoint, features, WIDE, chunk=chunk)
    parts = list(stream)
    assert {len(part) for part in parts[:-1]} == {chunk * len(HORIZONS)}
    whole = predict_frame(checkpoint, features, WIDE)
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, rtol=1e-5, atol=1e-9)
    pd.testing.assert_frame_equal(next(iter(stream)), parts[0], check_exact=True)  # a second reading makes them again


def test_a_stream_is_written_row_group_by_row_group_and_read_back_as_one_frame(
    features: pd.DataFrame, tmp_path: Path
) -> None:
    checkpoint = checkpoint_of(features, noise=0.1)
    stream = predict_stream(checkpoint, features, WIDE, chunk=16)
    path = str(tmp_path / "predictions.parquet")
    inner = "nqcast.datasets.StreamedParquetDataset"
    VerifiedDataset(filepath=path, dataset=inner, version=Version(None, "2026-01-01T00.00.00.000Z")).save(stream)
    found = VerifiedDataset(filepath=path, dataset=inner, version=Version(None, None)).load()
    pd.testing.assert_frame_equal(found, pd.concat(stream, ignore_index=True), check_exact=True)


def test_the_scale_is_computed_once_for_all_chunks(features: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint, calls, describe = checkpoint_of(features), [], SeasonalHAR.describe
    monkeypatch.setattr(SeasonalHAR, "describe", lambda *given: calls.append(1) or describe(*given))
    assert len(list(predict_stream(checkpoint, features, WIDE, chunk=10))) == 7
    assert calls == [1]


def test_memory_does_not_grow_with_the_anchors(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features, rolling_quantiles=True, rolling_sessions=5)
    few, many = np.arange(1000, 1512), np.arange(1000, 1000 + 16 * 512)
    peaks = []
    for positions in (few, few, many):  # the first reading pays for what is imported and built on the way
        stream = predict_stream(checkpoint, features, positions, chunk=256)
        tracemalloc.start()
        for _ in stream:
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    forecasts = (len(many) - len(few)) * len(HORIZONS) * len(LEVELS) * 8
    assert peaks[2] - peaks[1] < 0.25 * forecasts  # less than a quarter of what the forecasts alone would take


def test_calibrated_forecasts_stream_too(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features, noise=0.1)
    state = ConformalCalibration(LEVELS, HORIZONS, "abc").state()
    state |= {"offsets": np.linspace(-0.1, 0.1, 35).reshape(5, 7).tolist(), "online_rate": 0.015}
    fitted = Calibration.from_json(state | {"online_offsets": np.zeros((5, 7)).tolist()})
    predictions = predict_frame(checkpoint, features, ANCHORS)
    whole = calibrated_frame(predictions, fitted, "abc")
    parts = list(calibrated_frames(predictions, fitted, "abc", rows=33))
    assert max(map(len, parts)) == 33
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)
    with pytest.raises(ValueError, match="expected a conformal calibration"):
        calibrated_frames(predictions, fitted, "another")


def test_no_anchors_give_no_forecasts(features: pd.DataFrame) -> None:
    quantiles, scale = predict(checkpoint_of(features), features, np.array([], dtype=np.int64))
    assert quantiles.shape == (0, 5, 7) and scale.shape == (0, 5)

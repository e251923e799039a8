"""Checkpoint and calibration go together: the pair is checked, the rows are in order, the bands mean what they say."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.constants import HORIZONS, LEVELS
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import (
    CONFORMAL,
    ONLINE,
    Calibration,
    calibrated_frame,
    calibrated_quantiles,
    fit_calibration,
    quantiles_by_row,
)
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import OnlineCalibration
from nqcast.evaluation.coverage import coverage_band, coverage_check
from nqcast.evaluation.frames import Forecasts, as_arrays
from nqcast.evaluation.metrics import level_name
from nqcast.evaluation.significance import stationary_bootstrap
from nqcast.storage.checkpoint import Checkpoint, Metadata

CONFIG = EvaluateConfig()
CHECKPOINT = Checkpoint({}, Metadata(fingerprint="abc"))
WEIGHTS = CHECKPOINT.weights_sha256


def stream(sessions: int, width: float, seed: int) -> Forecasts:
    """Independent normal outcomes, and forecasts ``width`` times too wide."""
    rng = np.random.default_rng(seed)
    n = 200 * sessions
    day = np.repeat(np.arange(sessions), 200)
    ts = pd.Timestamp("2016-01-04", tz="UTC") + pd.to_timedelta(day, unit="D")
    ts = pd.Series(ts + pd.to_timedelta(5 * np.tile(np.arange(200), sessions), unit="min"))
    session = pd.Series(pd.Timestamp("2016-01-04") + pd.to_timedelta(day, unit="D"))
    scale = 1e-3 * np.exp(rng.normal(0, 0.5, (n, 5)))
    targets = scale * rng.normal(size=(n, 5))
    targets[::50, 4] = np.nan
    return Forecasts(ts, session, targets, width * scale[..., None] * stats.norm.ppf(LEVELS), scale)


def frame_of(anchors: Forecasts) -> pd.DataFrame:
    """The predictions frame of a stream."""
    rows = pd.DataFrame({"ts": anchors.ts.repeat(5), "session": anchors.session.repeat(5)}).reset_index(drop=True)
    rows["horizon"] = pd.array(list(HORIZONS) * len(anchors.ts), dtype="string")
    rows["target"], rows["scale"] = anchors.targets.ravel(), anchors.scale.ravel()
    names = [level_name(tau) for tau in LEVELS]
    return rows.assign(**dict(zip(names, anchors.quantiles.reshape(-1, 7).T, strict=True)))


def test_a_calibration_of_validation_mends_the_coverage_of_later_anchors_offline_and_online() -> None:
    validation, later = stream(40, 1.3, 0), stream(40, 1.3, 1)
    made = fit_calibration(validation, CHECKPOINT, CONFIG)
    state = Calibration.from_json(json.loads(json.dumps(made.to_json())))
    assert state.to_json() == made.to_json()
    rows = calibrated_quantiles(later, state, WEIGHTS)
    assert list(rows) == [CONFORMAL, ONLINE]
    raw = metrics.coverage_by_level(later.quantiles, later.targets, LEVELS)
    assert np.abs(raw - LEVELS).max() > 0.04
    for quantiles, off in zip(rows.values(), (0.02, 0.05), strict=True):
        assert metrics.coverage_by_level(quantiles, later.targets, LEVELS) == pytest.approx(
            np.tile(LEVELS, (5, 1)), abs=off
        )
    fitted = state.coverage
    assert abs(fitted["model"]["15m"]["q05"] - 0.05) > 0.02
    assert abs(fitted["model_conformal"]["15m"]["q05"] - 0.05) < 0.001
    assert state.anchors["count"] == 8000


def test_the_online_row_goes_on_where_the_validation_stretch_left_it() -> None:
    whole = stream(40, 1.5, 0)
    first, second = (dataclasses.replace(whole, **part(whole, cut)) for cut in (slice(0, 4000), slice(4000, None)))
    state = fit_calibration(first, CHECKPOINT, CONFIG)
    issued = calibrated_quantiles(second, state, WEIGHTS)[ONLINE]
    stamps = whole.ts.dt.tz_convert(None).to_numpy()
    at_once = OnlineCalibration(LEVELS, tuple(HORIZONS.values()), CONFIG.online_rate).run(
        stamps, whole.quantiles, whole.targets, whole.scale
    )
    # one piece also learns from the last horizon of the first part
    assert issued == pytest.approx(at_once[4000:], abs=6e-5)
    assert np.abs(issued - second.quantiles).max() > 2e-4


def test_offsets_by_part_of_the_session_go_through_the_file_and_on() -> None:
    validation, later = stream(40, 1.3, 0), stream(40, 1.3, 1)
    by_part = CONFIG.model_copy(update={"online_by_part": True})
    made = fit_calibration(validation, CHECKPOINT, by_part)
    state = Calibration.from_json(json.loads(json.dumps(made.to_json())))
    assert state.online_offset_HQ is not None and state.online_offset_HQ.shape == (4, 5, 7)
    assert state.to_json() == made.to_json()
    one = fit_calibration(validation, CHECKPOINT, CONFIG)
    rows = [calibrated_quantiles(later, each, WEIGHTS) for each in (state, one)]
    assert (rows[0][CONFORMAL] == rows[1][CONFORMAL]).all() and (rows[0][ONLINE] != rows[1][ONLINE]).any()


def part(anchors: Forecasts, cut: slice) -> dict[str, object]:
    of_anchors = [field.name for field in dataclasses.fields(anchors) if field.name not in ("horizons", "levels")]
    return {name: getattr(anchors, name)[cut] for name in of_anchors}


def test_a_pair_that_does_not_belong_together_is_refused() -> None:
    state = fit_calibration(stream(10, 1.0, 0), CHECKPOINT, CONFIG)
    with pytest.raises(ValueError, match=rf"fitted for the weights def.*for {WEIGHTS[:20]}"):
        calibrated_quantiles(stream(10, 1.0, 1), state, "def")
    with pytest.raises(ValueError, match="expected a calibration of levels"):
        calibrated_quantiles(stream(10, 1.0, 1), dataclasses.replace(state, levels=(0.1, 0.5, 0.9)), WEIGHTS)


def test_the_calibrated_frame_holds_the_same_anchors_whatever_the_order_of_the_rows() -> None:
    validation, later = stream(10, 1.2, 0), stream(10, 1.2, 1)
    state = fit_calibration(validation, CHECKPOINT, CONFIG)
    expected = calibrated_quantiles(later, state, WEIGHTS)
    shuffled = frame_of(later).sample(frac=1.0, random_state=0)
    frame = calibrated_frame(shuffled, state, WEIGHTS)
    for row, quantiles in quantiles_by_row(frame).items():
        assert (quantiles == expected[row]).all()
    again = as_arrays(frame[frame["forecast"] == ONLINE], LEVELS, tuple(HORIZONS))
    assert (again.scale == later.scale).all()
    assert (again.ts.to_numpy() == later.ts.to_numpy()).all()


def test_bands_hold_a_calibrated_forecast_as_often_as_they_say() -> None:
    inside = []
    for seed in range(30):
        anchors = stream(40, 1.0, seed)
        resamples = stationary_bootstrap(40, 5.0, 200, np.random.default_rng(seed))
        low, high = coverage_band(anchors, resamples)
        error = metrics.coverage_by_level(anchors.quantiles, anchors.targets, LEVELS) - LEVELS
        inside.append((error >= low) & (error <= high))
    assert np.mean(inside) == pytest.approx(0.93, abs=0.05)


def test_the_check_names_the_levels_that_leave_the_widened_band_and_no_others() -> None:
    anchors = stream(100, 1.0, 3)
    resamples = stationary_bootstrap(100, 5.0, 200, np.random.default_rng(0))
    moved = anchors.quantiles.copy()
    moved[:, 1, 6] *= 1.5
    check = coverage_check(dataclasses.replace(anchors, quantiles=moved), anchors.quantiles, resamples)
    assert {h: one["outside"] for h, one in check.items() if one["outside"]} == {"30m": ["q95"]}
    assert check["30m"]["wis_over_raw"] > 0 == check["15m"]["wis_over_raw"]
    mean = np.mean([check[h]["error"]["q95"] for h in HORIZONS])
    assert check["mean"]["error"]["q95"] == pytest.approx(mean)

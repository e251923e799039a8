"""Calibration: coverage on exchangeable and on drifting data, order kept, nothing known before its time."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast import constants
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import Calibration
from nqcast.evaluation.conformal import ConformalCalibration, OnlineCalibration, conformal_quantile, in_order
from nqcast.evaluation.session_losses import PARTS, session_part

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "60m")
MINUTES = (15, 60)


def world(
    n: int, width: float, seed: int = 0, drift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Stamps, forecasts ``width`` times too wide, outcomes (spread growing by exp(drift) on the way), and scale."""
    rng = np.random.default_rng(seed)
    ts = np.datetime64("2016-01-04") + 5 * np.arange(n).astype("timedelta64[m]")
    scale = 1e-3 * np.exp(rng.normal(0, 0.5, (n, 2)))
    targets = scale * np.exp(drift * np.linspace(0, 1, n))[:, None] * rng.normal(size=(n, 2))
    return ts, width * scale[..., None] * stats.norm.ppf(LEVELS), targets, scale


@pytest.mark.parametrize("width", [0.7, 1.0, 1.5])
def test_conformal_offsets_bring_every_level_to_its_coverage_on_new_data(width: float) -> None:
    _, quantiles, targets, scale = world(40_000, width)
    calibration = ConformalCalibration(LEVELS, HORIZONS).fit(quantiles[:20_000], targets[:20_000], scale[:20_000])
    moved = calibration.apply(quantiles[20_000:], scale[20_000:])
    coverage = metrics.coverage_by_level(moved, targets[20_000:], LEVELS)
    assert coverage == pytest.approx(np.tile(LEVELS, (2, 1)), abs=0.012)
    raw = metrics.coverage_by_level(quantiles[20_000:], targets[20_000:], LEVELS)
    if width != 1.0:
        assert np.abs(raw - LEVELS).max() > 0.04


def test_symmetric_offsets_cover_with_every_interval_and_leave_the_median_where_it_is() -> None:
    _, quantiles, targets, scale = world(40_000, 0.7)
    drifted = targets + 0.3 * scale  # what a period of rising prices does to outcomes
    fitted = ConformalCalibration(LEVELS, HORIZONS, symmetric=True).fit(quantiles, drifted, scale)
    moved = fitted.apply(quantiles, scale)
    for percent in (50, 80, 90):
        share = metrics.mean_defined(metrics.inside(moved, drifted, LEVELS, percent))
        assert share == pytest.approx(np.full(2, percent / 100), abs=2e-4)
    assert (moved[..., 3] == quantiles[..., 3]).all()
    assert fitted.offset_HQ == pytest.approx(-fitted.offset_HQ[:, ::-1])
    by_level = ConformalCalibration(LEVELS, HORIZONS).fit(quantiles, drifted, scale)
    assert by_level.offset_HQ[:, 3] == pytest.approx([0.3, 0.3], abs=0.02)


def test_a_level_without_its_pair_is_moved_by_level() -> None:
    _, quantiles, targets, scale = world(2_000, 1.4)
    chosen, levels = [0, 1, 3, 6], (0.05, 0.10, 0.50, 0.95)
    both = [
        ConformalCalibration(levels, HORIZONS, symmetric=s).fit(quantiles[..., chosen], targets, scale).offset_HQ
        for s in (True, False)
    ]
    assert (both[0][:, 1] == both[1][:, 1]).all()
    assert (both[0][:, 0] == -both[0][:, 3]).all()
    assert (both[0][:, 2] == 0).all()


@pytest.mark.parametrize("level", [0.1, 0.9])
def test_the_conformal_quantile_covers_one_more_score_at_least_as_often_as_promised(level: float) -> None:
    draws = np.random.default_rng(0).normal(size=(20_000, 26))
    below = np.mean([row[-1] <= conformal_quantile(row[:-1], level) for row in draws])
    assert below == pytest.approx(np.ceil(26 * level) / 26 if level > 0.5 else np.floor(26 * level) / 26, abs=0.01)


def test_calibrated_quantiles_never_cross_and_the_median_is_not_pushed_by_its_neighbours() -> None:
    crossed = np.random.default_rng(1).normal(size=(500, 2, 7))
    ordered = in_order(crossed, LEVELS)
    assert metrics.crossing_rate(ordered) == 0
    assert (ordered[..., 3] == crossed[..., 3]).all()
    rising = np.sort(crossed, axis=-1)
    assert (in_order(rising, LEVELS) == rising).all()


def test_a_calibration_survives_json_and_refuses_another_checkpoint() -> None:
    rng = np.random.default_rng(5)
    quantiles, targets, scale = rng.normal(size=(500, 5, 7)), rng.normal(size=(500, 5)), np.ones((500, 5))
    fitted = ConformalCalibration(LEVELS, tuple(constants.HORIZONS), "abc").fit(quantiles, targets, scale)
    state = json.loads(json.dumps(fitted.state()))
    back = Calibration.from_json(state).conformal("abc", LEVELS, tuple(constants.HORIZONS))
    assert (back.apply(quantiles, scale) == fitted.apply(quantiles, scale)).all()
    with pytest.raises(ValueError, match=r"fitted for the weights other.*found one for abc"):
        Calibration.from_json(state).conformal("other", LEVELS, tuple(constants.HORIZONS))
    with pytest.raises(ValueError, match="expected a calibration with online offsets"):
        Calibration.from_json(state).online()
    with pytest.raises(ValueError, match="expected a conformal calibration, found 'isotonic'"):
        Calibration.from_json({**state, "kind": "isotonic"})


def test_too_few_outcomes_are_refused() -> None:
    _, quantiles, targets, scale = world(500, 1.0)
    targets[15:, 1] = np.nan
    with pytest.raises(ValueError, match="at least 20 outcomes at 60m"):
        ConformalCalibration(LEVELS, HORIZONS).fit(quantiles, targets, scale)


def test_online_offsets_follow_a_drift_that_offline_ones_miss() -> None:
    ts, quantiles, targets, scale = world(20_000, 1.0, drift=1.0)
    targets[::7, 0] = np.nan
    offline = ConformalCalibration(LEVELS, HORIZONS).fit(quantiles[:4000], targets[:4000], scale[:4000])
    late = slice(10_000, None)
    missed = metrics.coverage_by_level(offline.apply(quantiles, scale)[late], targets[late], LEVELS)
    followed = metrics.coverage_by_level(
        OnlineCalibration(LEVELS, MINUTES, rate=0.1).run(ts, quantiles, targets, scale)[late], targets[late], LEVELS
    )
    assert np.abs(missed - LEVELS).max() > 0.06
    assert np.abs(followed - LEVELS).max() < 0.025


def test_online_calibration_costs_a_right_forecast_almost_nothing() -> None:
    ts, quantiles, targets, scale = world(20_000, 1.0, seed=2)
    issued = OnlineCalibration(LEVELS, MINUTES).run(ts, quantiles, targets, scale)
    raw, moved = (metrics.mean_pinball(q, targets, LEVELS) for q in (quantiles, issued))
    assert moved == pytest.approx(raw, rel=2e-3)


def test_an_outcome_counts_only_once_its_horizon_has_passed() -> None:
    ts, quantiles, targets, scale = world(200, 1.0)
    before = OnlineCalibration(LEVELS, MINUTES).run(ts, quantiles, targets, scale)
    changed = targets.copy()
    changed[100] += 1.0
    after = OnlineCalibration(LEVELS, MINUTES).run(ts, quantiles, changed, scale)
    for h, bars in enumerate((3, 12)):
        assert (after[: 100 + bars, h] == before[: 100 + bars, h]).all()
        assert (after[100 + bars, h] != before[100 + bars, h]).any()


def test_online_offsets_go_on_from_one_stretch_to_the_next_and_time_must_rise() -> None:
    ts, quantiles, targets, scale = world(400, 1.4)
    online = OnlineCalibration(LEVELS, MINUTES)
    online.run(ts[:200], quantiles[:200], targets[:200], scale[:200])
    narrowed = online.offset_HQ.copy()
    assert (narrowed[:, -1] < 0).all()
    online.run(ts[200:], quantiles[200:], targets[200:], scale[200:])
    assert (online.offset_HQ[:, -1] < narrowed[:, -1]).all()
    with pytest.raises(ValueError, match="in time order"):
        online.run(ts[::-1], quantiles, targets, scale)


def anchor_by_anchor(
    online: OnlineCalibration, ts: np.ndarray, q: np.ndarray, y: np.ndarray, s: np.ndarray
) -> np.ndarray:
    """The online calibration as its definition reads, one outcome after the other."""
    issued, tau = np.empty_like(q), np.asarray(online.levels)
    for h, minutes in enumerate(online.minutes):
        done, step = 0, online.rate * 5 / minutes
        for t in range(len(ts)):
            while done < t and ts[done] + np.timedelta64(minutes, "m") <= ts[t]:
                if np.isfinite(y[done, h]):
                    online.offset_HQ[h] += step * (tau - (y[done, h] <= issued[done, h]))
                done += 1
            issued[t, h] = in_order(q[t, h] + online.offset_HQ[h] * s[t, h], online.levels)
    return issued


def test_online_offsets_by_blocks_are_those_of_outcome_after_outcome_to_the_bit() -> None:
    rng = np.random.default_rng(3)
    ts = np.datetime64("2016-01-04", "ns") + np.cumsum(rng.choice([5, 5, 5, 10, 400], size=700)).astype(
        "timedelta64[m]"
    )
    scale = np.exp(rng.normal(size=(700, 2)))
    quantiles = scale[..., None] * np.array([-1.2, 0.0, 1.2])
    targets = np.where(rng.random((700, 2)) < 0.1, np.nan, scale * rng.normal(size=(700, 2)))
    runs = [OnlineCalibration((0.1, 0.5, 0.9), (15, 240), rate=0.1) for _ in range(2)]
    expected = anchor_by_anchor(runs[0], ts, quantiles, targets, scale)
    np.testing.assert_array_equal(runs[1].run(ts, quantiles, targets, scale), expected)
    np.testing.assert_array_equal(runs[1].offset_HQ, runs[0].offset_HQ)
    assert np.abs(runs[1].offset_HQ).max() > 0.01


def test_each_part_of_the_session_follows_its_own_outcomes_alone() -> None:
    """The oracle: the stream of one part by itself; what comes in the others moves nothing there."""
    ts, _, targets, scale = world(20_000, 1.0)
    part = session_part(pd.Series(ts).dt.tz_localize("UTC"))
    width = np.select([part == name for name in PARTS], [1.4, 0.7, 1.0, 1.0])
    quantiles = (width[:, None] * scale)[..., None] * stats.norm.ppf(LEVELS)
    online = OnlineCalibration(LEVELS, MINUTES, parts=len(PARTS))
    issued = online.run(ts, quantiles, targets, scale, [PARTS.index(name) for name in part])
    for number, name in enumerate(PARTS):
        rows = part == name
        alone = OnlineCalibration(LEVELS, MINUTES)
        expected = alone.run(ts[rows], quantiles[rows], targets[rows], scale[rows])
        np.testing.assert_array_equal(issued[rows], expected)
        np.testing.assert_array_equal(online.offset_HQ[number], alone.offset_HQ)
    assert online.offset_HQ[0, :, -1].max() < 0 < online.offset_HQ[1, :, -1].min(), "one was too wide, one too narrow"

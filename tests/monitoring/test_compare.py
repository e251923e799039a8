"""The comparison as a whole, on a market whose law is known: what is refused, what is judged, what is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.forecast.test_predictor import checkpoint_of

from nqcast.constants import CLOCK, HORIZONS
from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import fingerprint
from nqcast.evaluation.calibration import Calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.monitoring.compare import Trained, monitor, newest_anchors
from nqcast.monitoring.config import MonitorConfig
from nqcast.report.figures.monitoring import draw_monitor
from nqcast.storage.checkpoint import DataCard

BARS = 276  # of a session
SPLIT = SplitConfig(warmup_bars=2760)
EVALUATE = EvaluateConfig(device="cpu")
LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)


def with_clock(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.assign(**{name: 1 + np.arange(len(frame)) % 5 for name in CLOCK if name not in frame})


@pytest.fixture(scope="module")
def trained(market: Callable[..., pd.DataFrame]) -> Trained:
    """Sessions 11 to 40 train, 42 to 51 validate; the checkpoint is the untrained start, SeasonalHAR itself."""
    features = with_clock(market(56))
    train, validation = np.arange(2760, 41 * BARS - 60, 3), np.arange(43 * BARS, 52 * BARS - 60, 2)
    parts = [("train", train), ("validation", validation)]
    splits = pd.concat(
        [features.loc[rows, ["ts", "session"]].assign(position=rows, split=name) for name, rows in parts],
        ignore_index=True,
    )
    checkpoint = checkpoint_of(features)
    named = replace(checkpoint.metadata, fingerprint="f", data=DataCard(fingerprint(features)))
    checkpoint = replace(checkpoint, metadata=named)
    calibration = ConformalCalibration(LEVELS, tuple(HORIZONS), checkpoint.weights_sha256).state()
    return Trained(features, splits, checkpoint, Calibration.from_json(calibration))


def judged(newest: pd.DataFrame, trained: Trained) -> pd.DataFrame:
    config = MonitorConfig(sessions=4, shown_sessions=6, mean_block=2, draws=200, false_alarms=0.03)
    return monitor(newest, trained, SPLIT, config, EVALUATE)


@pytest.mark.slow
def test_the_same_market_passes_and_the_picture_shows_every_feature(
    trained: Trained, market: Callable[..., pd.DataFrame]
) -> None:
    done = judged(with_clock(market(60)), trained)
    assert done.report["crossed"] == [] and done.report["exit_status"] == 0
    assert done.report["sessions"] == {"count": 4, "first": "2015-08-26", "last": "2015-08-29"}
    assert len(done.checks) == done.report["checks"] == 69
    same = done.checks[(done.checks["family"] == "skill") & (done.checks["name"] == "seasonal_har")]
    assert same["value"].to_numpy() == pytest.approx(0.0, abs=0.05)  # the reference is the same, with ten sessions more
    newest = done.rolling[done.rolling["session"] == done.rolling["session"].max()]
    merged = newest.merge(done.checks, on=["family", "name", "horizon"])
    assert merged["value_x"].to_numpy() == pytest.approx(merged["value_y"].to_numpy(), abs=1e-12)
    figure = draw_monitor(done.checks, done.rolling)
    assert len(figure.axes[0].get_yticklabels()) == 24


@pytest.mark.slow
def test_what_has_changed_is_named_with_its_status(trained: Trained, market: Callable[..., pd.DataFrame]) -> None:
    newest = with_clock(market(60))
    late = newest["session"] >= "2015-08-26"
    newest.loc[late, "amihud"] += 6.0
    targets = [f"target_{name}" for name in HORIZONS]
    newest.loc[late, targets] = newest.loc[late, targets] * 4.0  # outcomes that no forecast has seen coming
    report = judged(newest, trained).report
    assert report["exit_status"] == 3
    assert {"feature drift amihud", "coverage q05 15m", "coverage q95 15m"} <= set(report["crossed"])
    assert not any(name.startswith("feature drift rsi") for name in report["crossed"])
    assert "CROSSED" in report["text"] and "The run ends with status 3" in " ".join(report["text"].split())


def test_features_of_another_training_and_bars_without_anything_new_are_refused(
    trained: Trained, market: Callable[..., pd.DataFrame]
) -> None:
    with pytest.raises(ValueError, match=r"features that the checkpoint was trained on .* name their version"):
        dataclasses.replace(trained, features=with_clock(market(57)))
    with pytest.raises(ValueError, match=r"at least 2 sessions with anchors after 2015-08-21.* found 0"):
        newest_anchors(trained.features.iloc[: 50 * BARS], trained.last_session, SPLIT, 10)

"""Whatever happens after a bar changes nothing at or before it: from raw minutes to forecasts, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from tests.forecast.conftest import random_checkpoint

from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.windows import WindowTable
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.predictor import predict
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.checkpoint import Checkpoint

BATCH = EvaluateConfig(device="cpu", batch_size=64)


@dataclass(frozen=True)
class World:
    """Raw minutes, the features made of them, and a checkpoint whose every weight is drawn at random."""

    raw: pd.DataFrame
    features: pd.DataFrame
    checkpoint: Checkpoint


def features_of(raw: pd.DataFrame) -> pd.DataFrame:
    # What the future is changed to is no market that opens where it closed: that is said, and no reason to stop.
    return build_features(build_bars(raw, IngestConfig(doubtful="warn")).bars)


@pytest.fixture(scope="module", params=[False, True], ids=["train quantiles", "rolling quantiles and long memory"])
def world(request: pytest.FixtureRequest) -> World:
    raw = simulate(SimulationConfig(sessions=60, seed=11))
    features = features_of(raw)
    checkpoint = random_checkpoint(
        features, ScaleConfig(rolling_quantiles=request.param, rolling_sessions=5, long_memory=request.param)
    )
    return World(raw, features, checkpoint)


def other_future(raw: pd.DataFrame, end: pd.Timestamp, rng: np.random.Generator) -> pd.DataFrame:
    """Every row from `end` on gets prices and volume of its own that are still a valid bar on the tick."""
    changed = raw.copy()
    later = (changed["ts"] >= end).to_numpy()
    n = int(later.sum())
    level = changed.loc[later, "close"].to_numpy() * np.exp(np.cumsum(rng.normal(0, 1e-3, n)))
    body = np.round((level[:, None] * (1 + rng.normal(0, 2e-3, (n, 2)))) / 0.25) * 0.25
    reach = np.round(rng.gamma(1.0, 4.0, (n, 2))) * 0.25
    changed.loc[later, "open"], changed.loc[later, "close"] = body[:, 0], body[:, 1]
    changed.loc[later, "high"] = body.max(axis=1) + reach[:, 0]
    changed.loc[later, "low"] = body.min(axis=1) - reach[:, 1]
    changed.loc[later, "volume"] = rng.integers(1, 2000, n)
    return changed


def overlap_time(raw: pd.DataFrame) -> pd.Timestamp:
    """A time inside the stretch in which two contracts trade."""
    contracts = raw.groupby("ts")["contract"].nunique()
    both = contracts.index[contracts > 1]
    return both[len(both) // 2].floor("5min")


@pytest.mark.parametrize("where", ["early", "late", "inside a roll's overlap"])
def test_a_changed_future_changes_no_feature_window_scale_or_forecast(world: World, where: str) -> None:
    rng = np.random.default_rng(3)
    share = {"early": 0.55, "late": 0.93}.get(where)
    ts = world.features["ts"]
    cut = overlap_time(world.raw) if share is None else ts.iloc[int(share * len(ts))]
    changed = features_of(other_future(world.raw, cut + pd.Timedelta(minutes=5), rng))

    n = int((ts <= cut).sum())
    past = [c for c in world.features.columns if not c.startswith("target_")]
    pd.testing.assert_frame_equal(changed.loc[: n - 1, past], world.features.loc[: n - 1, past], check_exact=True)
    assert not np.array_equal(changed["close"].to_numpy()[n : n + 50], world.features["close"].to_numpy()[n : n + 50])

    anchors = np.sort(np.append(rng.choice(np.arange(400, n - 1), 63, replace=False), n - 1))
    window, again = (WindowTable(f, None, "cpu").gather(anchors)["features"] for f in (world.features, changed))
    assert torch.equal(window, again)
    before = predict(world.checkpoint, world.features, anchors, BATCH)
    after = predict(world.checkpoint, changed, anchors, BATCH)
    np.testing.assert_array_equal(before[1], after[1])
    np.testing.assert_array_equal(before[0], after[0])


def test_the_same_check_sees_a_leak(world: World) -> None:
    """A forecast one bar after the change does differ: the check above can fail."""
    ts = world.features["ts"]
    cut = ts.iloc[int(0.8 * len(ts))]
    changed = features_of(other_future(world.raw, cut + pd.Timedelta(minutes=5), np.random.default_rng(3)))
    anchor = np.array([int((ts <= cut).sum())])
    before, after = (predict(world.checkpoint, f, anchor, BATCH)[0] for f in (world.features, changed))
    assert not np.array_equal(before, after)

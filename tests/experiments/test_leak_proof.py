"""The prover proves what is so, and sees a leak in each of its three halves."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import CONTEXT, HORIZONS, TARGETS
from nqcast.data.config import FeaturesConfig, SplitConfig
from nqcast.evaluation.frames import targets_at
from nqcast.experiments import leak_proof
from nqcast.experiments.leak_proof import LeakError, World, main
from nqcast.market.config import IngestConfig
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate


@pytest.fixture(scope="module")
def world() -> World:
    raw = simulate(SimulationConfig(sessions=60, seed=11))
    return World.make(raw, IngestConfig(), FeaturesConfig(), SplitConfig(warmup_bars=600))


@pytest.fixture(scope="module")
def cut(world: World) -> pd.Timestamp:
    return world.features["ts"].iloc[int(0.8 * len(world.features))]


@pytest.mark.slow
def test_the_simulated_market_is_proved_in_every_half(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert main(["--cuts", "2"]) == 0
    assert "no leak found" in caplog.text and caplog.text.count("bit-equal") == 2
    assert caplog.text.count("targets permuted") == 5


@pytest.mark.parametrize("column", ["log_return", "realized_variance", "close"])
def test_a_column_that_looks_one_bar_ahead_is_named(
    world: World, cut: pd.Timestamp, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = leak_proof.build_features

    def leaking(bars: pd.DataFrame, config: FeaturesConfig, names: Sequence[str]) -> pd.DataFrame:
        frame = build(bars, config, names=names)
        return frame.assign(**{column: frame[column].shift(-1, fill_value=0.0)})

    monkeypatch.setattr(leak_proof, "build_features", leaking)
    sighted = World.make(world.raw, world.ingest, world.features_config, SplitConfig(warmup_bars=600))
    checkpoint = leak_proof.random_checkpoint(sighted, rolling=False, seed=0)
    with pytest.raises(LeakError, match=f"column {column}"):
        leak_proof.prove_the_future_is_unused(sighted, checkpoint, cut, seed=0)


def test_a_forecast_that_looks_ahead_is_seen(world: World, cut: pd.Timestamp, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = leak_proof.random_checkpoint(world, rolling=False, seed=0)
    real = leak_proof.predict
    monkeypatch.setattr(leak_proof, "predict", lambda c, f, anchors, config: real(c, f, anchors + 1, config))
    with pytest.raises(LeakError, match="forecasts up to"):
        leak_proof.prove_the_future_is_unused(world, checkpoint, cut, seed=0)


def test_a_fit_on_more_than_train_is_seen(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ts = world.features["ts"]
    train = leak_proof.positions(world.splits, "train")
    after_train = ts.iloc[int(train[-1]) + 100]
    checkpoint = leak_proof.random_checkpoint(world, rolling=False, seed=0)
    everything = np.sort(world.splits["position"].to_numpy())
    monkeypatch.setattr(leak_proof, "positions", lambda splits, name: everything if name == "train" else None)
    monkeypatch.setattr(leak_proof, "label_times", lambda features, anchors: ts.iloc[train])
    with pytest.raises(LeakError, match="fitted"):
        leak_proof.prove_the_future_is_unused(world, checkpoint, after_train, seed=0)


@pytest.mark.slow
def test_skill_on_permuted_targets_is_seen(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = leak_proof.make_baseline

    class Oracle:
        def fit(self, features: pd.DataFrame, anchors: np.ndarray) -> Oracle:
            return self

        def predict(self, features: pd.DataFrame, anchors: np.ndarray) -> np.ndarray:
            answers = np.nan_to_num(targets_at(features, anchors, tuple(HORIZONS)))
            return np.repeat(answers[:, :, None], 7, axis=2) + 1e-5 * np.arange(-3, 4)

    monkeypatch.setattr(
        leak_proof, "make_baseline", lambda name, *rest: Oracle() if name == "log_har" else real(name, *rest)
    )
    monkeypatch.setattr(leak_proof, "_network", lambda *rest: {})
    monkeypatch.setattr(leak_proof, "predict", lambda c, f, anchors, config: (np.zeros((len(anchors), 5, 7)), None))
    with pytest.raises(LeakError, match="log_har above zero"):
        leak_proof.prove_permuted_targets_teach_nothing(world, 0, tmp_path)


def test_labels_that_reach_into_the_next_split_are_seen(world: World) -> None:
    leak_proof.prove_the_labels_are_in_order(world.features, world.splits, CONTEXT)
    splits = world.splits.copy()
    train = splits.index[splits["split"] == "train"]
    splits.loc[train[-200:], "position"] += CONTEXT
    with pytest.raises(LeakError, match="labels of train to end before validation begins"):
        leak_proof.prove_the_labels_are_in_order(world.features, splits, CONTEXT)


def test_permuted_targets_are_the_same_ones_in_another_order_and_no_others(world: World) -> None:
    features = leak_proof.permuted_targets(world.features, world.splits, np.random.default_rng(0))
    names = list(TARGETS)
    anchors = world.splits["position"].to_numpy()
    whole = anchors[world.features[names].notna().all(axis=1).to_numpy()[anchors]]
    one, other = (frame[names].to_numpy()[whole] for frame in (world.features, features))
    assert np.array_equal(one[np.lexsort(one.T)], other[np.lexsort(other.T)])
    assert (one != other).any(axis=1).mean() > 0.99
    assert int(features[names].notna().all(axis=1).sum()) == len(whole)


def test_a_file_that_cannot_be_used_says_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "bars.csv").write_text("a,b\n1,2\n")
    assert main(["--bars", str(tmp_path / "bars.csv")]) == 2
    assert "expected a column" in caplog.text

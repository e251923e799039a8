"""A simulated market of sixty sessions, and a checkpoint for it whose every weight is drawn at random."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
from tests.evaluation.conftest import market

from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.splits import make_splits, positions
from nqcast.experiments.leak_proof import drawn_checkpoint
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.checkpoint import Checkpoint

__all__ = ["market"]


@pytest.fixture(scope="session")
def raw() -> pd.DataFrame:
    return simulate(SimulationConfig(sessions=60, seed=7))


@pytest.fixture(scope="session")
def features(raw: pd.DataFrame) -> pd.DataFrame:
    return build_features(build_bars(raw, IngestConfig()).bars)


@pytest.fixture(scope="session", params=[False, True], ids=["train quantiles", "rolling quantiles"])
def checkpoint(request: pytest.FixtureRequest, features: pd.DataFrame) -> Checkpoint:
    return random_checkpoint(features, ScaleConfig(rolling_quantiles=request.param, rolling_sessions=5))


@pytest.fixture(scope="session")
def plain_checkpoint(features: pd.DataFrame) -> Checkpoint:
    return random_checkpoint(features, ScaleConfig())


def random_checkpoint(features: pd.DataFrame, scale_config: ScaleConfig) -> Checkpoint:
    """The prover's checkpoint of random weights, with a fingerprint."""
    train = positions(make_splits(features, SplitConfig(warmup_bars=600)), "train")
    drawn = drawn_checkpoint(features, train, scale_config, seed=1)
    return replace(drawn, metadata=replace(drawn.metadata, fingerprint="feedc0de"))

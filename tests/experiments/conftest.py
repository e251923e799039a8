"""A simulated market of sixty sessions, as features, and a recipe that trains in a second."""

from __future__ import annotations

import pandas as pd
import pytest

from nqcast.constants import LEVELS
from nqcast.data.config import ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.evaluation.config import EvaluateConfig
from nqcast.experiments.config import WalkForwardConfig
from nqcast.experiments.walk_forward import WalkForward
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.model.config import ModelConfig
from nqcast.runs.recipe import Recipe
from nqcast.training.config import TrainConfig

SPLIT = SplitConfig(warmup_bars=5520)
EVALUATE = EvaluateConfig(device="cpu", bootstrap_replications=100)


@pytest.fixture(scope="session")
def features() -> pd.DataFrame:
    return build_features(build_bars(simulate(SimulationConfig(sessions=60, seed=7)), IngestConfig()).bars)


@pytest.fixture(scope="session")
def recipe() -> Recipe:
    train = TrainConfig(
        epochs=1, windows_per_epoch=256, batch_size=128, accumulation=1, warmup_steps=1, t_0=1, device="cpu"
    )
    return Recipe(ScaleConfig(), ModelConfig(size="test"), train, LEVELS)


@pytest.fixture(scope="session")
def walk(recipe: Recipe) -> WalkForward:
    """Three folds of five sessions."""
    config = WalkForwardConfig(folds=3, train_sessions=12, validation_sessions=4, test_sessions=5)
    return WalkForward(SPLIT, recipe, EVALUATE, config)

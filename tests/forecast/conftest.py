"""A simulated market of sixty sessions, and a checkpoint for it whose every weight is drawn at random."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from nqcast.data.config import FEATURES, HORIZONS, LEVELS, ScaleConfig, SplitConfig
from nqcast.data.features import build_features
from nqcast.data.scale import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation_config import SimulationConfig
from nqcast.market.simulator import simulate
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig


@pytest.fixture(scope="session")
def raw() -> pd.DataFrame:
    return simulate(SimulationConfig(sessions=60, seed=7))


@pytest.fixture(scope="session")
def features(raw: pd.DataFrame) -> pd.DataFrame:
    return build_features(build_bars(raw, IngestConfig()).bars)


@pytest.fixture(scope="session", params=[False, True], ids=["train quantiles", "rolling quantiles"])
def checkpoint(request: pytest.FixtureRequest, features: pd.DataFrame) -> dict[str, Any]:
    return random_checkpoint(features, ScaleConfig(rolling_quantiles=request.param, rolling_sessions=5))


@pytest.fixture(scope="session")
def plain_checkpoint(features: pd.DataFrame) -> dict[str, Any]:
    return random_checkpoint(features, ScaleConfig())


def random_checkpoint(features: pd.DataFrame, scale_config: ScaleConfig) -> dict[str, Any]:
    train = positions(make_splits(features, SplitConfig(warmup_bars=600)), "train")
    scale = make_scale(scale_config, LEVELS).fit(features, train)
    arrays, scalars = scale.state()
    config = ModelConfig(size="test", n_volatility=scale.n_state)
    model = MIGT_TVDT(config)
    rows = features.loc[features["traded"], list(FEATURES)].to_numpy()
    model.set_base(scale.unit_quantiles_HQ, rows.mean(axis=0), rows.std(axis=0))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3, generator=generator)
    tensors = {f"model.{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    metadata = {
        **{"model": config.model_dump(mode="json"), "scale": scalars, "features": list(FEATURES)},
        **{"quantiles": list(LEVELS), "horizons": list(HORIZONS), "fingerprint": "feedc0de"},
    }
    return {"tensors": tensors | {f"scale.{name}": array for name, array in arrays.items()}, "metadata": metadata}

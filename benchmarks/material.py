"""What the benchmarks work on: simulated bars, features, models, batches; made once a run where it is dear."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from nqcast.constants import FEATURES, HORIZONS, LEVELS
from nqcast.data.config import LoaderConfig, SplitConfig
from nqcast.data.data_module import NQDataModule
from nqcast.data.features import build_features
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.model import MIGT_TVDT, fuse
from nqcast.model.config import ModelConfig
from nqcast.storage.checkpoint import Checkpoint, Metadata

CYCLES = {"bar_in_day": 288, "day_of_week": 7, "day_of_month": 28, "day_of_year": 365}


def minutes(sessions: int) -> pd.DataFrame:
    """Raw one-minute bars of the simulated market."""
    return _kept(f"minutes_{sessions}", lambda: simulate(SimulationConfig(sessions=sessions)))


def bars(sessions: int) -> pd.DataFrame:
    """Five-minute bars of the simulated market."""
    return _kept(f"bars_{sessions}", lambda: build_bars(minutes(sessions), IngestConfig()).bars)


def features(sessions: int) -> pd.DataFrame:
    """Its feature table."""
    return build_features(bars(sessions))


def long_bars(count: int) -> pd.DataFrame:
    """`count` five-minute bars: one year repeated, each time a whole number of weeks later."""
    year = bars(250)
    span = pd.Timedelta(weeks=int((year["ts"].iloc[-1] - year["ts"].iloc[0]) / pd.Timedelta(weeks=1)) + 1)
    parts = [
        year.assign(ts=year["ts"] + i * span, session=year["session"] + i * span) for i in range(-(-count // len(year)))
    ]
    return pd.concat(parts, ignore_index=True).iloc[:count].reset_index(drop=True)


def data_module(sessions: int, batch_size: int = 128, windows: int | None = None) -> NQDataModule:
    """Features, splits, SeasonalHAR and loaders."""
    loader = LoaderConfig(windows_per_epoch=windows)
    splits = SplitConfig(warmup_bars=600)
    return NQDataModule.from_frames(features(sessions), splits, batch_size=batch_size, loader=loader)


def checkpoint(module: NQDataModule, size: str) -> Checkpoint:
    """An untrained model of this size on the module's scale: it costs what a trained one does."""
    config = ModelConfig(size=size)
    model = fuse(MIGT_TVDT(config, seed=0))
    model.set_base(module.unit_quantiles_HQ, module.feature_mean_F, module.feature_std_F)
    arrays, scalars = module.scale.state()
    tensors = {f"model.{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    axes = {"features": FEATURES, "quantiles": LEVELS, "horizons": tuple(HORIZONS)}
    made_of = {"fingerprint": "untrained", "model": config.model_dump(mode="json"), "scale": scalars}
    metadata = Metadata.of({**made_of, **axes})
    return Checkpoint(tensors | {f"scale.{name}": array for name, array in arrays.items()}, metadata)


def random_batch(config: ModelConfig, size: int, device: str = "cpu") -> dict[str, Any]:
    """A batch of the model's shapes from a seed: features, clock, scale, targets of which a tenth is undefined."""
    rng = torch.Generator().manual_seed(0)
    targets = torch.randn(size, config.n_horizons, generator=rng)
    targets[torch.rand(targets.shape, generator=rng) < 0.1] = torch.nan
    clock = {name: torch.randint(0, n, (size, config.context), generator=rng) for name, n in CYCLES.items()}
    return {
        "features": torch.randn(size, config.context, config.n_features, generator=rng).to(device),
        "targets": targets.to(device),
        "temporal_info": {name: values.to(device) for name, values in clock.items()},
        "scale": torch.ones(size, config.n_horizons, device=device),
    }


class BareStep:
    """A training step and nothing else: forward, pinball loss, backward, clipping, update."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer, autocast: Any) -> None:
        self.model, self.optimizer, self.autocast = model, optimizer, autocast
        self.levels = torch.tensor(LEVELS, device=next(model.parameters()).device)

    def __call__(self, batch: dict[str, Any]) -> Tensor:
        self.forward_backward(batch)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return self.levels

    def forward_backward(self, batch: dict[str, Any]) -> None:
        """Back-propagate the mean pinball loss of target / scale over the defined targets."""
        from nqcast.batches import outputs

        with self.autocast:
            output = outputs(self.model, batch)
        q_hat_BHQ = (output["quantiles"] if isinstance(output, dict) else output).float()
        scale_BH = batch["scale"]
        error_BHQ = (batch["targets"] / scale_BH)[..., None] - q_hat_BHQ / scale_BH[..., None]
        loss_BHQ = torch.maximum(self.levels * error_BHQ, (self.levels - 1.0) * error_BHQ)
        defined = torch.isfinite(error_BHQ)
        (torch.where(defined, loss_BHQ, 0.0).sum() / defined.sum()).backward()


def _kept(name: str, make: Any) -> pd.DataFrame:
    """A frame that the run has made already, or that is made now and kept for its other benchmarks."""
    folder = os.environ.get("NQCAST_BENCH_FOLDER")
    if folder is None:
        return make()
    path = Path(folder) / f"{name}.parquet"
    if not path.exists():
        make().to_parquet(path)
    return pd.read_parquet(path)


def windows_of(module: NQDataModule, count: int) -> np.ndarray:
    """The first `count` train anchors, repeated where there are fewer."""
    positions = module.train_loader.positions
    return np.resize(positions, count)

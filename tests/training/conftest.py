"""A linear quantile model and a tiny task: enough to ask every question about the loop in milliseconds."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nqcast.training import TrainConfig, Trainer

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m")


class TinyModel(nn.Module):
    """Two layers with dropout; forecasts (B, 2, 7) in return units."""

    def __init__(self, dropout: float = 0.2) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 14))

    def forward(
        self,
        features: Tensor,
        attention_mask: Tensor | None = None,
        temporal_info: dict[str, Tensor] | None = None,
        scale: Tensor | None = None,
        unit_quantiles: Tensor | None = None,
    ) -> dict[str, Any]:
        quantiles = self.body(features[:, -1]).view(-1, 2, 7)
        return {"quantiles": quantiles if scale is None else quantiles * scale[..., None]}


class TinyLoader:
    """Batches of a fixed table; the order is a function of (seed, epoch)."""

    def __init__(self, n: int, batch_size: int, seed: int | None, poison: Callable[[int, dict], dict] | None = None):
        g = torch.Generator().manual_seed(n)
        self.features = torch.randn(n, 3, 6, generator=g)
        self.scale = 1e-3 * (0.5 + torch.rand(n, 2, generator=g))
        spread = torch.exp(0.5 * self.features[:, -1, :2])
        self.targets = self.scale * spread * torch.randn(n, 2, generator=g)
        self.targets[torch.rand(n, 2, generator=g) < 0.2] = torch.nan
        self.batch_size, self.seed, self.epoch, self.poison = batch_size, seed, 0, poison

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.features) // self.batch_size)

    def __iter__(self) -> Iterator[dict]:
        order = torch.arange(len(self.features))
        if self.seed is not None:
            order = order[
                torch.randperm(len(order), generator=torch.Generator().manual_seed(97 * self.seed + self.epoch))
            ]
        for i, rows in enumerate(order.split(self.batch_size)):
            batch = {"features": self.features[rows], "targets": self.targets[rows], "scale": self.scale[rows]}
            yield batch if self.poison is None else self.poison(i, batch)


@pytest.fixture(autouse=True, scope="package")
def one_thread() -> Iterator[None]:
    """One thread: models this small gain nothing from more, and threads that wait for busy cores lose minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def config() -> TrainConfig:
    return TrainConfig(
        epochs=4, batch_size=16, accumulation=2, learning_rate=5e-3, warmup_steps=6, t_0=2, horizons=HORIZONS,
        device="cpu", seed=3, log_every=2,
    )  # fmt: skip


@pytest.fixture
def make_trainer(tmp_path: Path, config: TrainConfig) -> Callable[..., Trainer]:
    """Trainer of a freshly seeded model: make_trainer(directory, poison=…, trainer keyword or config field=…)."""

    def make(directory: str = "run", poison: Any = None, logger: Any = None, **fields: Any) -> Trainer:
        torch.manual_seed(11)
        model, own = TinyModel(), config.model_copy(update=fields)
        loaders = TinyLoader(150, 16, own.seed, poison), TinyLoader(60, 16, None)
        return Trainer(model, own, *loaders, tmp_path / directory, "cpu", logger)

    return make

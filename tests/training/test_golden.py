"""A loss curve that a refactor must not move, and a market that a network must be able to learn."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training import PinballLoss, TrainConfig, Trainer

GOLDEN = Path(__file__).parents[1] / "golden" / "loss_curve.json"
CONTEXT, SCALE = 48, 1e-3
MODEL = ModelConfig(size="test", context=CONTEXT, patch_length=4, n_features=3, n_horizons=1, dropout=0.1)
LEVELS = torch.tensor(MODEL.quantiles)


def leverage_market(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns whose log-variance rises with the last |z| and falls with the last z: features, returns, deviations."""
    z = np.random.default_rng(seed).standard_normal(n + 1)
    log_variance = np.zeros(n + 2)
    for t in range(n + 1):
        log_variance[t + 1] = 0.9 * log_variance[t] + 0.35 * (abs(z[t]) - 0.8) - 0.15 * z[t]
    deviation = SCALE * np.exp(log_variance / 2)
    returns = deviation[: n + 1] * z
    past = returns[:n]
    noise = 1e-7 * np.random.default_rng(seed + 1).standard_normal(n)
    features = np.stack([past, np.log(np.abs(past) + 1e-5), noise], axis=1)
    return tuple(torch.tensor(values, dtype=torch.float32) for values in (features, returns, deviation))


class Windows:
    """Batches over a market; the order is a function of the epoch, or time's own."""

    def __init__(self, market: tuple[torch.Tensor, ...], start: int, stop: int, shuffle: bool) -> None:
        self.features, self.returns, _ = market
        self.anchors, self.shuffle, self.epoch = torch.arange(start, stop), shuffle, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-len(self.anchors) // 64)

    def __iter__(self) -> Iterator[dict]:
        anchors = self.anchors
        if self.shuffle:
            anchors = anchors[np.random.default_rng(self.epoch).permutation(len(anchors))]
        for at in anchors.split(64):
            rows = at[:, None] + torch.arange(1 - CONTEXT, 1)
            clock = {"bar_in_day": rows % 288, "day_of_week": rows // 288 % 5}
            clock |= {"day_of_month": rows // 288 % 31, "day_of_year": rows // 288 % 366}
            yield {
                "features": self.features[rows],
                "targets": self.returns[at + 1, None],
                "temporal_info": clock,
                "scale": torch.full((len(at), 1), SCALE),
            }


def train(folder: Path, n_train: int, n_val: int, config: TrainConfig) -> tuple[list[dict], tuple, range]:
    market = leverage_market(n_train + n_val + CONTEXT, seed=0)
    loaders = [
        Windows(market, CONTEXT, CONTEXT + n_train, True),
        Windows(market, CONTEXT + n_train, CONTEXT + n_train + n_val - 1, False),
    ]
    y = market[1][loaders[0].anchors + 1] / SCALE
    torch.manual_seed(0)
    model = fuse(MIGT_TVDT(MODEL))
    rows = market[0][: CONTEXT + n_train]
    model.set_base(torch.quantile(y, LEVELS)[None], rows.mean(0), rows.std(0))
    history = Trainer(model, config, *loaders, folder, "cpu").train()
    return history, market, loaders[1].anchors


def test_the_loss_curve_is_the_golden_one(tmp_path: Path) -> None:
    """Rewrite tests/golden/loss_curve.json only when a change of the numbers is meant, and say why."""
    config = TrainConfig(
        epochs=3, batch_size=64, learning_rate=2e-3, warmup_steps=4, t_0=2, horizons=("5m",), device="cpu", seed=1
    )
    history, _, _ = train(tmp_path, 1000, 500, config)
    curve = {
        "train_loss": [record["train_loss"] for record in history[1:]],
        "val_loss": [record["val_loss"] for record in history],
        "picp_80": [record["picp_80"] for record in history],
    }
    golden = json.loads(GOLDEN.read_text())
    for name, values in curve.items():
        assert values == pytest.approx(golden[name], rel=1e-5 if name != "picp_80" else 5e-3), name


def test_a_network_without_a_volatility_model_learns_volatility_and_leverage(tmp_path: Path) -> None:
    """Constant scale: it must come to within half of what the true law gains over constants."""
    config = TrainConfig(
        epochs=6, batch_size=64, accumulation=1, learning_rate=3e-3, warmup_steps=20, t_0=6, horizons=("5m",),
        device="cpu",
    )  # fmt: skip
    history, market, anchors = train(tmp_path, 6000, 3000, config)
    truth = market[2][anchors + 1, None] * torch.special.ndtri(LEVELS)
    best = float(PinballLoss(MODEL.quantiles)(truth, market[1][anchors + 1]))
    start, reached = history[0]["loss_5m"], min(record["loss_5m"] for record in history)
    assert best < 0.98 * start  # the task has something to learn
    assert start - reached > 0.5 * (start - best)

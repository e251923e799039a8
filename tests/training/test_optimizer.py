"""Weight decay falls on matrices only, and a gain may have a rate of its own."""

import pytest
import torch
from torch import nn

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import TrainConfig
from nqcast.training.loss_functions import PinballLoss
from nqcast.training.scheduler import WarmupCosineScheduler, build_optimizer


def test_without_a_gradient_signal_matrices_shrink_and_vectors_stay() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = build_optimizer(model, TrainConfig(learning_rate=0.1, weight_decay=0.5))
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        factor = 0.95 if p.dim() == 2 else 1.0
        torch.testing.assert_close(p.detach(), factor * before[name])


def names_by_decay(model: MIGT_TVDT, config: TrainConfig) -> dict[float, set[str]]:
    name_of = {id(p): name for name, p in model.named_parameters()}
    groups = build_optimizer(model, config).param_groups
    return {group["weight_decay"]: {name_of[id(p)] for p in group["params"]} for group in groups}


def test_tables_of_the_network_decay_unless_they_are_left_out() -> None:
    """A patch's bias, ages, clock waves and places in a pool are vectors, one for each variable, patch or cycle."""
    model = MIGT_TVDT(ModelConfig(), seed=0)
    with_tables = names_by_decay(model, TrainConfig())[0.01]
    without = names_by_decay(model, TrainConfig(decay_tables=False))[0.01]
    clock = {"clock.omega_CW", "clock.phase_CW"}
    assert with_tables - without == clock | {
        "patches.bias_F1D", "age_PD", "time_pool.place_LA", "variable_pool.place_LA"
    }  # fmt: skip
    assert without < with_tables and {"patches.weight_FKD", "level_F2D", "time_pool.score_DA"} <= without


def test_the_gain_of_attention_may_learn_faster_and_every_other_rate_stays() -> None:
    model = MIGT_TVDT(ModelConfig(), seed=0)
    config = TrainConfig(learning_rate=1e-4, gain_rate=30.0)
    optimizer = build_optimizer(model, config)
    scheduler = WarmupCosineScheduler(optimizer, 0, t_0=10, eta_min=1e-6)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert rates.pop(id(model.token_gain)) == 30.0 * 1e-4 and set(rates.values()) == {1e-4}
    scheduler.position = 5
    scheduler._write()
    assert optimizer.param_groups[-1]["lr"] == 1e-6 + 0.5 * (30.0 * 1e-4 - 1e-6)
    assert len(build_optimizer(model, TrainConfig()).param_groups) == 2
    assert len(build_optimizer(MIGT_TVDT(ModelConfig(tokens=False)), config).param_groups) == 2


def gain_after(steps: int, gain_rate: float) -> float:
    """How much of the tokens' summary enters after so many steps at 1e-4, where only a window's first half tells y."""
    model = MIGT_TVDT(ModelConfig(size="test", dropout=0.0), seed=0)
    config, loss = TrainConfig(learning_rate=1e-4, gain_rate=gain_rate), PinballLoss(model.config.quantiles)
    optimizer, random = build_optimizer(model, config), torch.Generator().manual_seed(0)
    for _ in range(steps):
        x_BTF = torch.randn(16, model.config.context, model.config.n_features, generator=random)
        y_BH = (3 * x_BTF[:, : model.config.context // 2, :5].mean(dim=1)).exp() * torch.randn(16, 5, generator=random)
        optimizer.zero_grad()
        loss(model(x_BTF)["quantiles"], y_BH).backward()
        optimizer.step()
    return abs(model.token_gain.item())


def test_a_gain_with_its_own_rate_lets_attention_in_at_least_ten_times_as_far() -> None:
    slow, fast = (gain_after(30, rate) for rate in (1.0, 30.0))
    assert fast > 10 * slow > 0
    assert slow == pytest.approx(30 * 1e-4, rel=1.0), "at most a rate a step"

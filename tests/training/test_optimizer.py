"""Weight decay falls on matrices only."""

import torch
from torch import nn

from nqcast.training import TrainConfig
from nqcast.training.scheduler import build_optimizer


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

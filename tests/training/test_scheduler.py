"""The learning rate, written out."""

import math

import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingWarmRestarts

from nqcast.training import LinearWarmupScheduler, WarmupCosineScheduler


def optimizer(rate: float = 1.0) -> torch.optim.Optimizer:
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)


def test_the_rate_follows_the_table() -> None:
    """Warm-up of 5 micro-batches, epochs of 3, T_0 = 2, T_mult = 2, base 1, eta_min 0.1."""
    schedule = WarmupCosineScheduler(optimizer(), 5, t_0=2, t_mult=2, eta_min=0.1)
    rates = []
    for _ in range(7):
        for _ in range(3):
            rates.append(schedule.get_last_lr()[0])
            schedule.step_batch()
        schedule.step()
    quarter = 0.1 + 0.45 * (1 + math.cos(math.pi / 4))
    three_quarters = 0.1 + 0.45 * (1 + math.cos(3 * math.pi / 4))
    table = [
        0.2, 0.4, 0.6,  # warm-up; this epoch's end does not move the cosine
        0.8, 1.0, 1.0,  # warm-up ends inside; position 0
        0.55, 0.55, 0.55,  # position 1 of a cycle of 2
        1.0, 1.0, 1.0,  # restart: cycle of 4
        quarter, quarter, quarter,
        0.55, 0.55, 0.55,
        three_quarters, three_quarters, three_quarters,
    ]  # fmt: skip
    assert rates == pytest.approx(table, abs=1e-12)


def test_after_warm_up_it_is_torchs_cosine_with_restarts() -> None:
    own, reference = WarmupCosineScheduler(optimizer(3e-4), 0, 3, 2, 1e-6), optimizer(3e-4)
    torchs = CosineAnnealingWarmRestarts(reference, 3, 2, 1e-6)
    reference.step()
    for _ in range(30):
        assert own.get_last_lr()[0] == pytest.approx(torchs.get_last_lr()[0], rel=1e-9)
        own.step()
        torchs.step()


def test_a_restored_schedule_goes_on_as_if_never_stopped() -> None:
    whole, stopped = WarmupCosineScheduler(optimizer(), 4, 3, 2), WarmupCosineScheduler(optimizer(), 4, 3, 2)
    for _ in range(2):
        whole.step_batch()
        whole.step_batch()
        whole.step_batch()
        whole.step()
    stopped.load_state_dict(whole.state_dict())
    assert stopped.get_last_lr() == whole.get_last_lr()
    whole.step()
    stopped.step()
    assert stopped.get_last_lr() == whole.get_last_lr()


def test_linear_warm_up_ends_at_the_base_rate_and_stays() -> None:
    schedule = LinearWarmupScheduler(optimizer(0.4), 4)
    rates = []
    for _ in range(6):
        rates.append(schedule.get_last_lr()[0])
        schedule.step_batch()
        schedule.step()
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.4, 0.4])


def test_each_group_keeps_its_own_base_rate() -> None:
    two = torch.optim.SGD([{"params": [torch.zeros(1)], "lr": 1.0}, {"params": [torch.zeros(1)], "lr": 0.5}])
    schedule = WarmupCosineScheduler(two, 2, 5)
    assert schedule.get_last_lr() == [0.5, 0.25]
    assert WarmupCosineScheduler(two, 2, 5).base_rates == [1.0, 0.5]  # a second schedule starts from the same base

"""Counts that stay on the device: read seldom, they say the same; a skipped step holds the schedule all the same."""

from collections.abc import Callable

import pytest
import torch

from nqcast.training import Trainer
from nqcast.training.scheduler import WarmupCosineScheduler
from nqcast.training.trainer import TrainingFailedError

from .conftest import TinyLoader
from .test_trainer import lines, poison_batches

MakeTrainer = Callable[..., Trainer]


def deferred(trainer: Trainer) -> Trainer:
    """The loop as it runs on a GPU: counts, rates and the decision about a step stay on the device."""
    trainer.deferred = True
    trainer.stepper.rates = lambda: trainer.scheduler.rates_at(trainer.tally.batches)
    return trainer


def test_counts_read_at_log_points_are_those_read_at_every_step(make_trainer: MakeTrainer) -> None:
    """With three bad steps, one of them in warm-up; the rates are float32 on a device, hence not bit-equal."""
    poison = poison_batches(2, 7)
    whole, late = make_trainer("whole", poison), deferred(make_trainer("late", poison, log_every=3))
    whole.train()
    late.train()
    assert late.progress.skipped == whole.progress.skipped == 8
    assert late.scheduler.state_dict() == whole.scheduler.state_dict()
    assert [r["step"] for r in late.history] == [r["step"] for r in whole.history]
    for one, other in zip(whole.history, late.history, strict=True):
        assert one["val_loss"] == pytest.approx(other["val_loss"], rel=1e-5)
    for one, other in zip(whole.model.parameters(), late.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_a_deferred_run_stopped_between_log_points_ends_bit_equal(make_trainer: MakeTrainer, steps: int) -> None:
    poison = poison_batches(2)
    whole = deferred(make_trainer("whole", poison, log_every=3))
    whole.train()
    first = deferred(make_trainer("parts", poison, log_every=3, every_minutes=1e-9))
    asked, done = first._asked_to_stop, []

    def stop() -> bool:
        done.append(first.status)
        if len(done) == steps + 4:  # four batches of epoch 0's validation come first
            first.request_stop()
        return asked()

    first._asked_to_stop = stop
    first.train()
    assert first.status == "stopped"
    second = deferred(make_trainer("parts", poison, log_every=3))
    second.train()
    assert lines(whole) == lines(second)
    for one, other in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_too_many_bad_steps_in_a_row_are_found_at_the_next_log_point_even_when_good_ones_followed(
    make_trainer: MakeTrainer,
) -> None:
    trainer = deferred(make_trainer(poison=poison_batches(0, 2), max_skipped=2, log_every=4))
    with pytest.raises(TrainingFailedError, match="2 steps in a row"):
        trainer.train()


def reads_of(trainer: Trainer) -> int:
    """Tensors read by the host in two steps; the CPU's fused AdamW, which reads its rate, aside."""
    trainer._load_tally()
    batches = list(TinyLoader(64, 16, None))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for i in range(0, 4, 2):
            with torch.profiler.record_function("one step"):
                trainer._count(trainer.stepper(batches[i : i + 2], i), 2)
    reads = 0
    for event in profile.events():
        around, parent = [], event.cpu_parent
        while parent is not None:
            around.append(parent.name)
            parent = parent.cpu_parent
        in_optimizer = any("Optimizer.step" in name for name in around)
        reads += event.name == "aten::_local_scalar_dense" and "one step" in around and not in_optimizer
    return reads


def test_between_log_points_nothing_is_read_from_the_device(make_trainer: MakeTrainer) -> None:
    """Any `.item()`, `float()` or `bool()` of a tensor would wait for a GPU."""
    assert reads_of(deferred(make_trainer(log_every=1000))) == 0
    assert reads_of(make_trainer("immediate", log_every=1000)) > 0


def test_rates_of_a_count_on_the_device_are_those_of_the_count_on_the_host() -> None:
    parameters = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW([{"params": parameters.weight, "lr": 1e-2}, {"params": parameters.bias}], lr=1e-3)
    for warmup in (0, 4):
        scheduler = WarmupCosineScheduler(optimizer, warmup, t_0=3, t_mult=2, eta_min=1e-6)
        for batch in range(12):
            there = scheduler.rates_at(torch.tensor(float(scheduler.batches), dtype=torch.float64))
            assert [float(rate) for rate in there] == pytest.approx(scheduler.get_last_lr(), rel=1e-6)
            scheduler.step_batch()
            if batch % 3 == 2:
                scheduler.step()

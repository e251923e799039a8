"""A Trainer that is one rank of a run by several processes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from nqcast.batches import numbered, to_device
from nqcast.training.checkpoint import Checkpoint
from nqcast.training.distributed.ranks import Ranks, own_groups
from nqcast.training.distributed.steps import OrderedStepper, OverlappedStepper, SharedStepper
from nqcast.training.loss_functions import MetricSums
from nqcast.training.step import StepResult
from nqcast.training.trainer import Trainer
from nqcast.training.validation import validation_sums


class SharedTrainer(Trainer):
    """Trains like a Trainer, with `ranks` that share each step; the first of them writes, and all read what it wrote.

    The other arguments are Trainer's.
    """

    stepper: SharedStepper

    def __init__(self, ranks: Ranks, *arguments: Any, **named: Any) -> None:
        self.ranks, self.writes, self._processes = ranks, ranks.rank == 0, ranks.world
        super().__init__(*arguments, **named)

    def _make_stepper(self) -> SharedStepper:
        if self.ranks.exact:
            return OrderedStepper(self.ranks, *self._of_stepper(halve=self.config.on_out_of_memory == "halve"))
        # a rank that started a backward pass anew would leave the others waiting in a sum
        return OverlappedStepper(self.ranks, *self._of_stepper(halve=False))

    def _held(self) -> AbstractContextManager[object]:
        return super()._held() if self.writes else nullcontext()

    def _put_in_order(self, never: bool) -> None:
        if self.writes:
            super()._put_in_order(never)
        self.ranks.barrier()

    def _newest(self) -> tuple[Path, Checkpoint] | None:
        found = super()._newest()
        self.ranks.barrier()  # all have read before anything is changed
        return found

    def _steps(self) -> Iterator[tuple[StepResult, int]]:
        p, size = self.progress, self.config.accumulation
        n_batches = len(self.train_loader)
        plan = [self.stepper.plan(min(size, n_batches - first), size) for first in range(p.batch, n_batches, size)]
        for own, batches in own_groups(self.train_loader, p.batch, plan):
            moved = [to_device(batch, self.device) for batch in batches]
            yield self.stepper.step_together(own, moved, p.micro_batches), own.n_micro

    def _asked_to_stop(self) -> bool:
        self.ranks.alive()
        return self.ranks.any(self._stop_requested)

    def _validation_sums(self) -> MetricSums | None:
        """Sums of validation: a rank's own batches, added in one process's order, to the end."""
        n_batches, sums = len(self.val_loader), {}
        own = list(range(self.ranks.rank, n_batches, self.ranks.world))
        for number, batch in zip(own, numbered(self.val_loader, own), strict=True):
            self.ranks.alive()
            inputs = (self.model, [batch], self.precision, self.config.quantiles, self.stepper.pieces)
            if (of_batch := validation_sums(*inputs)) is not None:
                sums[number] = of_batch
        return self.ranks.metric_sums(sums, n_batches)

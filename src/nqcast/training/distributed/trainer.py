"""A Trainer that is one rank of a run by several processes, and the optimiser step that ranks compute together.

Which windows a step sees does not depend on the number of ranks. Two ways of adding gradients: `OrderedStepper` gathers
them unit by unit and adds them as one process would, bit by bit; `OverlappedStepper` is torch's
DistributedDataParallel, which sends while the backward pass still runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import gcd
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nqcast.batches import Batch, numbered, parts, to_device
from nqcast.training.checkpoint import Checkpoint
from nqcast.training.distributed.ranks import OwnUnits, Ranks, own_groups, own_units
from nqcast.training.loss_functions import MetricSums
from nqcast.training.step import Stepper, StepperParts, StepResult
from nqcast.training.trainer import Trainer
from nqcast.training.validation import validation_sums


class SharedStepper(Stepper, ABC):
    """One rank's part of a step; what both ways of adding gradients have in common."""

    def __init__(self, ranks: Ranks, *parts_of_stepper: *StepperParts) -> None:
        super().__init__(*parts_of_stepper)
        self.ranks = ranks

    @abstractmethod
    def plan(self, n_micro: int, accumulation: int) -> OwnUnits:
        """This rank's units in a group of `n_micro` micro-batches, where a whole group has `accumulation`."""

    def step_together(self, own: OwnUnits, batches: Sequence[Batch], first_index: int) -> StepResult:
        """Step like a `Stepper` of one process, with the batches of this rank's units."""
        count = self.ranks.total(self._defined(batches))
        losses = self._gradients(own, batches, first_index, count)
        return self._apply(self.ranks.ordered_total(losses, own.n_units), count)

    @abstractmethod
    def _gradients(self, own: OwnUnits, batches: Sequence[Batch], first_index: int, count: Tensor) -> dict[int, Tensor]:
        """Leave the group's gradient in the parameters of every rank; returns the summed loss of each own unit."""


class OrderedStepper(SharedStepper):
    """Gradients added unit by unit in the order of one process: bit-equal to it where whole micro-batches are shared.

    That is where the number of ranks divides accumulation, with the same threads per process. Costs the memory and the
    traffic of one gradient per unit.
    """

    def plan(self, n_micro: int, accumulation: int) -> OwnUnits:
        world = self.ranks.world
        return own_units(n_micro, world // gcd(accumulation, world), self.ranks.rank, world)

    def _gradients(self, own: OwnUnits, batches: Sequence[Batch], first_index: int, count: Tensor) -> dict[int, Tensor]:
        def attempt() -> tuple[dict[int, Tensor], dict[int, Tensor]]:
            losses, gradients = {}, {}
            for unit, batch in zip(own.units, batches, strict=True):
                losses[unit.number] = self._backward(batch, count, first_index + unit.micro, unit.piece)
                gradients[unit.number] = self._take_gradient()
            return losses, gradients

        losses, gradients = self._retried(batches, attempt)
        sizes = [*(p.numel() for p in self.parameters), len(self.parameters)]
        *total, present = self.ranks.ordered_rows(gradients, own.n_units, sum(sizes)).split(sizes)
        for parameter, gradient, known in zip(self.parameters, total, present.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if known else None
        return losses

    def _take_gradient(self) -> Tensor:
        """The gradient of all parameters as one vector, with 1 for each that has one; they are left without."""
        found = [(p.grad, p) for p in self.parameters]
        flat = [torch.zeros(p.numel(), device=self.device) if grad is None else grad.flatten() for grad, p in found]
        present = torch.tensor([float(grad is not None) for grad, _ in found], device=self.device)
        for parameter in self.parameters:
            parameter.grad = None
        return torch.cat([*flat, present])


class OverlappedStepper(SharedStepper):
    """torch's DistributedDataParallel: buckets of the gradient are summed while the backward pass goes on."""

    def __init__(self, ranks: Ranks, *parts_of_stepper: *StepperParts) -> None:
        super().__init__(ranks, *parts_of_stepper)
        ids = [self.device] if self.device.type == "cuda" else None
        self._network = DistributedDataParallel(self.model, ids, broadcast_buffers=False, gradient_as_bucket_view=True)
        self._parts_left = 0  # of this rank's part of the group; 0 outside of one

    def plan(self, n_micro: int, accumulation: int) -> OwnUnits:
        """Every rank gets the same number of units, of a short group too: none may miss a sum."""
        world = self.ranks.world
        return own_units(n_micro, world // gcd(n_micro, world), self.ranks.rank, world)

    def _gradients(self, own: OwnUnits, batches: Sequence[Batch], first_index: int, count: Tensor) -> dict[int, Tensor]:
        self._parts_left = sum(len(parts(batch, self.pieces)) for batch in batches)
        units = zip(own.units, batches, strict=True)

        def attempt() -> dict[int, Tensor]:
            return {u.number: self._backward(batch, count, first_index + u.micro, u.piece) for u, batch in units}

        return self._retried(batches, attempt)  # which ends the run: others wait in the sums of this backward pass

    def _backward_part(self, batch: Batch, count: Tensor) -> Tensor:
        if not self._parts_left:  # a rehearsal, which is this rank's alone
            return super()._backward_part(batch, count)
        self._parts_left -= 1
        network: nn.Module = self._network
        with self._network.no_sync() if self._parts_left else nullcontext():
            loss_sum, objective = self._loss_sum(batch, network)
            mean = self.scaler.scale(objective / count.clamp(min=1))
            (mean * self.ranks.world).backward()  # DistributedDataParallel divides by the number of ranks
        return loss_sum


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

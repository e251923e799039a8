"""An optimiser step that several ranks compute together. Which windows it sees does not depend on their number.

Two ways of adding gradients: `OrderedStepper` gathers them unit by unit and adds them as one process would, bit by bit;
`OverlappedStepper` is torch's DistributedDataParallel, which sends while the backward pass still runs.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import nullcontext
from math import gcd

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nqcast.batches import Batch, parts
from nqcast.training.distributed.ranks import OwnUnits, Ranks, own_units
from nqcast.training.step import Stepper, StepperParts, StepResult


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

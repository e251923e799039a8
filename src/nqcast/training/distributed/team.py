"""How the micro-batches of one step are shared out, and the team of one that computes them all itself.

A group is the micro-batches of one optimiser step. Each is cut into `pieces` equal pieces where there are more ranks
than micro-batches; a piece is a unit, units are numbered through the group, and rank r of `world` takes units r,
r + world, … Which window is in which group does not depend on the number of ranks.
"""

import itertools
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nqcast.training.loss_functions import MetricSums
from nqcast.training.out_of_memory import Batch, piece


class Share(NamedTuple):
    """One unit of a group: piece `piece` of `pieces` of its micro-batch `micro`; `unit` is its place in the sum."""

    unit: int
    micro: int
    piece: int = 0
    pieces: int = 1


class Portion(NamedTuple):
    """What one rank computes of a group."""

    n_micro: int
    n_units: int
    shares: list[Share]


def portion(n_micro: int, pieces: int, rank: int = 0, world: int = 1) -> Portion:
    """Units of a rank in a group of `n_micro` micro-batches, each in `pieces` pieces."""
    n_units = n_micro * pieces
    units = range(rank, n_units, world)
    return Portion(n_micro, n_units, [Share(unit, unit // pieces, unit % pieces, pieces) for unit in units])


class Team:
    """The team of one: nothing to share, nothing to send. `distributed` has the teams of several ranks."""

    rank, world = 0, 1
    may_retry = True  # whether a rank may compute its part of a group again
    loss_factor = 1  # by which the backward pass is multiplied, where the sum over ranks is divided again

    @property
    def writes(self) -> bool:
        """Whether this rank writes files and talks."""
        return self.rank == 0

    def portion(self, n_micro: int, accumulation: int) -> Portion:
        """This rank's part of a group of `n_micro` micro-batches; `accumulation` is a whole group's number."""
        return portion(n_micro, 1)

    def network(self, model: nn.Module) -> nn.Module:
        """The module that the forward pass of training calls."""
        return model

    def total(self, count: Tensor) -> Tensor:
        """Sum of an integer over the ranks."""
        return count

    def backward(self, last: bool) -> AbstractContextManager[Any]:
        """Around the backward pass of a unit, `last` on the rank's last one of the group."""
        return nullcontext()

    def unit_done(self, parameters: list[nn.Parameter], share: Share) -> None:
        """Told after the backward pass of each unit."""

    def reset(self) -> None:
        """Forget the units of a group that was given up."""

    def finish(self, parameters: list[nn.Parameter], losses: dict[int, Tensor], n_units: int) -> Tensor:
        """Leave the group's gradient in the parameters of every rank; returns the group's summed loss."""
        return fold(losses[unit] for unit in sorted(losses))

    def any(self, flag: bool) -> bool:
        """Whether any rank says so."""
        return flag

    def barrier(self) -> None:
        """Wait until every rank is here."""

    def alive(self) -> None:
        """Told whenever something was finished: a rank that falls silent hangs."""

    def metric_sums(self, batches: dict[int, MetricSums], n_batches: int) -> MetricSums | None:
        """Sums over all ranks' batches, added in the order of the batches' numbers."""
        raise NotImplementedError("a team of one adds its batches as they come")


def fold(terms: Iterable[Tensor]) -> Tensor:
    """((0 + a) + b) + c …, in this order."""
    total: Tensor | None = None
    for term in terms:
        total = torch.zeros_like(term) + term if total is None else total + term
    if total is None:
        raise ValueError("expected at least one term of a sum, found none")
    return total


def share_out(loader: Any, start: int, accumulation: int, team: Team) -> Iterator[tuple[Portion, list[Batch]]]:
    """Groups of what is left of the epoch from micro-batch `start` on: this rank's portion and its units' batches."""
    n_batches = len(loader)
    firsts = range(start, n_batches, accumulation)
    plan = [(first, team.portion(min(accumulation, n_batches - first), accumulation)) for first in firsts]
    needed = [[first + micro for micro in sorted({s.micro for s in own.shares})] for first, own in plan]
    batches = numbered(loader, list(itertools.chain.from_iterable(needed)))
    for (first, own), numbers in zip(plan, needed, strict=True):
        at_hand = dict(zip(numbers, itertools.islice(batches, len(numbers)), strict=True))
        yield own, [piece(at_hand[first + s.micro], s.piece, s.pieces) for s in own.shares]


def numbered(loader: Any, numbers: list[int]) -> Iterator[Batch]:
    """Batches of these numbers, rising; a loader that has `numbered` itself need not draw the others."""
    if hasattr(loader, "numbered"):
        return iter(loader.numbered(numbers))
    wanted = set(numbers)
    return (batch for number, batch in enumerate(loader) if number in wanted)

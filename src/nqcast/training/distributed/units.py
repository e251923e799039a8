"""How the ranks of a run divide the micro-batches of one optimiser step among themselves.

A group is the micro-batches of one step. Each is cut into `pieces` equal pieces where there are more ranks than
micro-batches; a piece is a unit, units are numbered through the group, and rank r of `world` takes units r, r + world,
… Which window is in which group does not depend on the number of ranks.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nqcast.batches import Batch, Batches, numbered, piece


class Unit(NamedTuple):
    """Piece `piece` of `pieces` of a group's micro-batch `micro`; `number` is its place in the sum."""

    number: int
    micro: int
    piece: int = 0
    pieces: int = 1


class OwnUnits(NamedTuple):
    """What one rank computes of a group of `n_micro` micro-batches in `n_units` units."""

    n_micro: int
    n_units: int
    units: list[Unit]


def own_units(n_micro: int, pieces: int, rank: int = 0, world: int = 1) -> OwnUnits:
    """Units of a rank in a group of `n_micro` micro-batches, each in `pieces` pieces."""
    n_units = n_micro * pieces
    numbers = range(rank, n_units, world)
    return OwnUnits(n_micro, n_units, [Unit(number, number // pieces, number % pieces, pieces) for number in numbers])


def own_groups(loader: Batches, start: int, plan: Sequence[OwnUnits]) -> Iterator[tuple[OwnUnits, list[Batch]]]:
    """The groups of `plan`, whose first micro-batch is number `start` of the epoch, each with its units' batches."""
    firsts = list(itertools.accumulate((own.n_micro for own in plan), initial=start))[:-1]
    needed = [sorted({first + u.micro for u in own.units}) for first, own in zip(firsts, plan, strict=True)]
    batches = numbered(loader, list(itertools.chain.from_iterable(needed)))
    for first, own, numbers in zip(firsts, plan, needed, strict=True):
        at_hand = dict(zip(numbers, itertools.islice(batches, len(numbers)), strict=True))
        yield own, [piece(at_hand[first + u.micro], u.piece, u.pieces) for u in own.units]


def ordered_sum(terms: Iterable[Tensor]) -> Tensor:
    """((0 + a) + b) + c …, in this order."""
    total: Tensor | None = None
    for term in terms:
        total = torch.zeros_like(term) + term if total is None else total + term
    if total is None:
        raise ValueError("expected at least one term of a sum, found none")
    return total

"""The ranks of a run: processes that meet, what they say to each other, and how they divide a step among themselves.

A group is the micro-batches of one step. Each is cut into `pieces` equal pieces where there are more ranks than
micro-batches; a piece is a unit, units are numbered through the group, and rank r of `world` takes units r, r + world,
… Which window is in which group does not depend on the number of ranks.
"""

import datetime as dt
import itertools
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor

from nqcast.batches import Batch, Batches, numbered, piece
from nqcast.training.config import TrainConfig
from nqcast.training.distributed.watchdog import Watchdog
from nqcast.training.loss_functions import MetricSums


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


_GRACE = 60.0  # seconds by which a collective waits longer than the watchdog, so that the stacks come first


class Ranks:
    """This process as one rank of several: what they say to each other.

    `exact` asks for gradients added in the order of one process, bit by bit.
    """

    def __init__(self, device: torch.device, watchdog: Watchdog, exact: bool = True) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device, self.watchdog, self.exact = device, watchdog, exact

    def total(self, count: Tensor) -> Tensor:
        """Sum of an integer over the ranks."""
        dist.all_reduce(count)
        return count

    def any(self, flag: bool) -> bool:
        """Whether at least one rank passes a true value."""
        asked = torch.tensor(int(flag))  # on the CPU: gloo carries it, and no GPU is waited for
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def alive(self) -> None:
        """Say that something was finished: a rank that falls silent hangs."""
        self.watchdog.alive()

    def ordered_total(self, values: dict[int, Tensor], n: int) -> Tensor:
        """Sum of `n` numbers, of which this rank has those in `values`, in the order of their keys."""
        table = torch.zeros(n, dtype=torch.float64, device=self.device)
        for number, value in values.items():
            table[number] = value
        dist.all_reduce(table)  # every place is filled by one rank alone
        return ordered_sum(table)

    def ordered_rows(self, rows: dict[int, Tensor], n: int, width: int) -> Tensor:
        """Sum of `n` rows in their order; number i is at rank i mod world."""
        own = torch.zeros(-(-n // self.world), width, device=self.device)
        for number, row in rows.items():
            own[number // self.world] = row
        gathered = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(gathered, own)
        return ordered_sum(gathered[i % self.world][i // self.world] for i in range(n))

    def metric_sums(self, batches: dict[int, MetricSums], n_batches: int) -> MetricSums | None:
        """Sums over all ranks' batches, added in the order of the batches' numbers.

        Every rank fills its own rows of a table of zeros, so that adding the tables is exact in any order.
        """
        shape = torch.zeros(2, dtype=torch.int64, device=self.device)
        if batches:
            shape += torch.tensor(next(iter(batches.values())).loss_HQ.shape, device=self.device)
        dist.all_reduce(shape, dist.ReduceOp.MAX)  # a rank may have no batch at all
        if not int(shape[0]):
            return None
        like = MetricSums.zeros(int(shape[0]), int(shape[1]), self.device)
        rows = torch.zeros(n_batches, like.packed().numel(), dtype=like.count_H.dtype, device=self.device)
        for number, sums in batches.items():
            rows[number] = sums.packed()
        dist.all_reduce(rows)
        return like.unpacked(ordered_sum(rows))


def rank_device(config: TrainConfig) -> torch.device:
    """Device of this rank: the GPU of its number on this host, or the CPU."""
    wants_gpu = config.device == "auto" or config.device.startswith("cuda")
    if wants_gpu and torch.cuda.is_available():
        return torch.device("cuda", int(os.environ["LOCAL_RANK"]))
    return torch.device("cpu")


@contextmanager
def joined_ranks(config: TrainConfig, folder: Path, meeting: str | None) -> Iterator[Ranks]:
    """This process as a rank among those that the launcher started; `folder` takes the stacks of hung ranks.

    Ranks of one host meet in the file `meeting` and talk over loopback; without one they meet at MASTER_ADDR.
    """
    device = rank_device(config)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if os.environ["LOCAL_WORLD_SIZE"] == os.environ["WORLD_SIZE"] and sys.platform == "linux":
        for backend in ("GLOO", "NCCL"):
            os.environ.setdefault(f"{backend}_SOCKET_IFNAME", "lo")
    rank, world, restart = (int(os.environ[f"{name}"]) for name in ("RANK", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT"))
    seconds = 60.0 * config.hang_minutes
    with Watchdog(seconds, folder, rank) as watchdog:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
            init_method=f"file://{meeting}_{restart}" if meeting else "env://",
            rank=rank,
            world_size=world,
            timeout=dt.timedelta(seconds=seconds + _GRACE),
        )
        try:
            yield Ranks(device, watchdog, exact=device.type == "cpu" or config.deterministic)
        finally:
            dist.destroy_process_group()

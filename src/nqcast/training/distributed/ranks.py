"""The ranks of a run: processes that meet, and what they say to each other."""

import datetime as dt
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from nqcast.training.config import TrainConfig
from nqcast.training.distributed.units import ordered_sum
from nqcast.training.distributed.watchdog import Watchdog
from nqcast.training.loss_functions import MetricSums

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

"""Several ranks share each step. Which windows a step sees does not depend on their number.

Two ways of adding gradients: `OrderedRanks` gathers them unit by unit and adds them as one process would, bit by bit;
`OverlappedRanks` is torch's DistributedDataParallel, which sends while the backward pass still runs.
"""

import datetime as dt
import os
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from math import gcd
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from nqcast.training.config import TrainConfig
from nqcast.training.distributed.team import Portion, Share, Team, fold, portion
from nqcast.training.distributed.watchdog import Watchdog
from nqcast.training.loss_functions import MetricSums

_GRACE = 60.0  # seconds by which a collective waits longer than the watchdog, so that the stacks come first


class Ranks(Team):
    """One rank of several; what both ways of adding gradients have in common."""

    def __init__(self, device: torch.device, watchdog: Watchdog) -> None:
        self.rank, self.world = dist.get_rank(), dist.get_world_size()
        self.device, self.watchdog = device, watchdog

    def total(self, count: Tensor) -> Tensor:
        dist.all_reduce(count)
        return count

    def any(self, flag: bool) -> bool:
        asked = torch.tensor(int(flag))  # on the CPU: gloo carries it, and no GPU is waited for
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    def barrier(self) -> None:
        self.any(False)

    def alive(self) -> None:
        self.watchdog.alive()

    def metric_sums(self, batches: dict[int, MetricSums], n_batches: int) -> MetricSums | None:
        """Every rank fills its own rows of a table of zeros, so that adding the tables is exact in any order."""
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
        return like.unpacked(fold(rows))

    def _loss_sum(self, losses: dict[int, Tensor], n_units: int) -> Tensor:
        table = torch.zeros(n_units, dtype=torch.float64, device=self.device)
        for unit, loss in losses.items():
            table[unit] = loss
        dist.all_reduce(table)
        return fold(table)


class OrderedRanks(Ranks):
    """Gradients added unit by unit in the order of one process: bit-equal to it where whole micro-batches are shared.

    That is where the number of ranks divides accumulation, with the same threads per process. Costs the memory and the
    traffic of one gradient per unit.
    """

    def __init__(self, device: torch.device, watchdog: Watchdog) -> None:
        super().__init__(device, watchdog)
        self._kept: dict[int, Tensor] = {}

    def portion(self, n_micro: int, accumulation: int) -> Portion:
        return portion(n_micro, self.world // gcd(accumulation, self.world), self.rank, self.world)

    def unit_done(self, parameters: list[nn.Parameter], share: Share) -> None:
        present = torch.tensor([float(p.grad is not None) for p in parameters], device=self.device)
        flat = [torch.zeros(p.numel(), device=self.device) if p.grad is None else p.grad.flatten() for p in parameters]
        self._kept[share.unit] = torch.cat([*flat, present])
        for parameter in parameters:
            parameter.grad = None

    def reset(self) -> None:
        self._kept.clear()

    def finish(self, parameters: list[nn.Parameter], losses: dict[int, Tensor], n_units: int) -> Tensor:
        sizes = [*(p.numel() for p in parameters), len(parameters)]
        own = torch.zeros(-(-n_units // self.world), sum(sizes), device=self.device)
        for unit, gradient in self._kept.items():
            own[unit // self.world] = gradient
        self._kept.clear()
        gathered = [torch.empty_like(own) for _ in range(self.world)]
        dist.all_gather(gathered, own)
        *gradients, present = fold(gathered[u % self.world][u // self.world] for u in range(n_units)).split(sizes)
        for parameter, gradient, known in zip(parameters, gradients, present.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter).clone() if known else None
        return self._loss_sum(losses, n_units)


class OverlappedRanks(Ranks):
    """torch's DistributedDataParallel: buckets of the gradient are summed while the backward pass goes on."""

    may_retry = False  # a rank that starts a backward pass anew would leave the others waiting in a sum

    def __init__(self, device: torch.device, watchdog: Watchdog) -> None:
        super().__init__(device, watchdog)
        self.loss_factor = self.world  # DistributedDataParallel divides the sum by the number of ranks
        self._network: DistributedDataParallel | None = None

    def portion(self, n_micro: int, accumulation: int) -> Portion:
        """Every rank gets the same number of units, of a short group too: none may miss a sum."""
        return portion(n_micro, self.world // gcd(n_micro, self.world), self.rank, self.world)

    def network(self, model: nn.Module) -> nn.Module:
        ids = [self.device] if self.device.type == "cuda" else None
        self._network = DistributedDataParallel(model, ids, broadcast_buffers=False, gradient_as_bucket_view=True)
        return self._network

    def backward(self, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last or self._network is None else self._network.no_sync()

    def finish(self, parameters: list[nn.Parameter], losses: dict[int, Tensor], n_units: int) -> Tensor:
        return self._loss_sum(losses, n_units)


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
            exact = device.type == "cpu" or config.deterministic
            yield (OrderedRanks if exact else OverlappedRanks)(device, watchdog)
        finally:
            dist.destroy_process_group()

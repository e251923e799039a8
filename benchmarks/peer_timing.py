"""Clock, training step and windows per second of the peers' scripts; nothing of this project is imported."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

import torch

LEVELS = [0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95]
STEPS = 4  # in one timed pass


def clock() -> float:
    """Seconds of wall time, or of this process's work, as `measuring.clock` has it."""
    return time.process_time() if os.environ.get("NQCAST_BENCH_CLOCK") == "cpu" else time.perf_counter()


def trained_per_second(run: Callable[[], int], seconds: float) -> float:
    """Windows per second, the best of passes that fill `seconds`, after one that warms up."""
    run()
    best, started = 0.0, clock()
    while best == 0.0 or clock() - started < seconds:
        begun = clock()
        best = max(best, run() / (clock() - begun))
    return best


def nearest(make: Callable[[int], torch.nn.Module], widths: Iterable[int], parameters: int) -> torch.nn.Module:
    """The network whose number of trained parameters is nearest to `parameters`."""
    return make(min(widths, key=lambda width: abs(count(make(width)) - parameters)))


def count(model: torch.nn.Module) -> int:
    """Number of trained parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


class Step:
    """Forward, loss, backward, clipping, fused AdamW: `loss_of(batch)` gives the loss and the number of windows."""

    def __init__(self, model: torch.nn.Module, loss_of: Callable[[Any], tuple[torch.Tensor, int]]) -> None:
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(self.parameters, fused=True)
        self.loss_of = loss_of

    def over(self, batches: Iterable[Any]) -> int:
        """Train on the first STEPS batches; returns the windows seen."""
        windows = 0
        for batch in islice(batches, STEPS):
            loss, size = self.loss_of(batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            windows += size
        return windows

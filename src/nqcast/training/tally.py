"""Running counts of a run, kept where its steps are computed, so that a GPU is waited for at log points only."""

from dataclasses import dataclass

import torch
from torch import Tensor

from nqcast.training.step import StepResult


@dataclass(frozen=True)
class Counts:
    """What a tally says when it is read."""

    loss_sum: float
    loss_count: float
    batches: int  # micro-batches of applied steps: the schedule's clock
    skipped: int
    skipped_in_row: int
    longest_row: int  # of skipped steps, since the last reading


class Tally:
    """Sums over steps: of loss, defined targets, micro-batches that move the schedule, and skipped steps.

    The totals go on from what they are loaded with, so reading them often or seldom gives the same numbers bit by bit.
    On a device without float64 they are kept on the CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device if device.type == "cuda" else torch.device("cpu")
        self.load(Counts(0.0, 0.0, 0, 0, 0, 0))

    def load(self, counts: Counts) -> None:
        """Go on from these counts."""
        values = (counts.loss_sum, counts.loss_count, counts.batches, counts.skipped, counts.skipped_in_row, 0.0)
        totals = torch.tensor(values, dtype=torch.float64).to(self.device)
        self.loss_sum, self.loss_count, self.batches, self.skipped, self.in_row, self.longest = totals.unbind()

    def add(self, result: StepResult, n_micro: int) -> None:
        """Take in one step of `n_micro` micro-batches; a skipped one adds to nothing but the skipped."""
        applied = result.applied.to(self.device)
        failed = ~applied
        self.loss_sum = self.loss_sum + result.loss_sum.to(self.device).masked_fill(failed, 0.0)
        self.loss_count = self.loss_count + result.count.to(self.device).masked_fill(failed, 0)
        self.batches = self.batches + n_micro * applied
        self.skipped = self.skipped + failed
        self.in_row = (self.in_row + failed) * failed
        self.longest = torch.maximum(self.longest, self.in_row)

    def read(self) -> Counts:
        """The counts so far, by one transfer, which waits for the device; the longest row starts anew."""
        parts: list[Tensor] = [
            self.loss_sum, self.loss_count, self.batches, self.skipped, self.in_row, self.longest,
        ]  # fmt: skip
        loss_sum, loss_count, batches, skipped, in_row, longest = torch.stack(parts).tolist()
        self.longest = torch.zeros_like(self.longest)
        return Counts(loss_sum, loss_count, int(batches), int(skipped), int(in_row), int(longest))

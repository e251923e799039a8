"""One optimiser step over a group of micro-batches, equal to the step of one big batch."""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.batches import Batch, n_windows, outputs, parts
from nqcast.training.device import Precision
from nqcast.training.loss_functions import CombinedQuantileLoss, realized_loss
from nqcast.training.out_of_memory import OutOfMemoryError, explanation, is_out_of_memory

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Rates = Callable[[], list[Tensor]]
StepperParts = tuple[nn.Module, Optimizer, CombinedQuantileLoss, Precision, "StepSettings", Rates | None]


@dataclass(frozen=True)
class StepResult:
    """What a step did, as device scalars: summed loss, count of defined targets, gradient norm, whether applied."""

    loss_sum: Tensor
    count: Tensor
    grad_norm: Tensor
    applied: Tensor


@dataclass(frozen=True)
class StepSettings:
    """What shapes a step beside model, loss and optimiser."""

    clip_norm: float  # greatest global norm of the gradient
    seed: int = 0  # of dropout
    halve: bool = False  # micro-batches that do not fit into memory go through the model in pieces
    realized_weight: float = 0.0  # of the auxiliary loss by which the spread learns the realized volatility
    horizon_weights: tuple[float, ...] = (1.0,)  # of what is minimised; one for all, or one for each


class Stepper:
    """Accumulate, unscale, clip, step, update, zero.

    `pieces` is the number of parts in which a micro-batch passes through the model: 1 until memory runs out and
    `settings.halve` allows more. The gradient is the same, dropout's masks are others.

    With `rates`, which gives the rate of each parameter group as a device scalar, a step is skipped or applied on the
    device and the host waits for nothing; the optimiser must be fused.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: CombinedQuantileLoss,
        precision: Precision,
        settings: StepSettings,
        rates: Rates | None = None,
    ) -> None:
        self.settings, self.pieces, self.rates = settings, 1, rates
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.device, self.autocast, self.scaler = precision.device, precision.autocast(), precision.scaler()
        self.weights_H = torch.tensor(settings.horizon_weights, device=self.device)
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def __call__(self, batches: Sequence[Batch], first_index: int) -> StepResult:
        """Step on the mean loss over all defined targets of the group.

        The denominator is known from the targets before any forward pass, so unequal masks and a short last group
        weigh every target alike. `first_index` numbers the group's first micro-batch in the run; dropout depends on
        the seed and the micro-batch's number only.
        """
        count = self._defined(batches)
        loss_sum = self._retried(batches, lambda: self._accumulate(batches, first_index, count))
        return self._apply(loss_sum, count)

    def _defined(self, batches: Sequence[Batch]) -> Tensor:
        """Number of defined targets."""
        counts = [torch.isfinite(batch["targets"]).sum() for batch in batches]
        return torch.stack(counts).sum() if counts else torch.zeros((), dtype=torch.int64, device=self.device)

    def _accumulate(self, batches: Sequence[Batch], first_index: int, count: Tensor) -> Tensor:
        """Back-propagate each micro-batch; returns the group's summed loss."""
        loss_sum = self._zero()
        for index, batch in enumerate(batches, first_index):
            loss_sum = loss_sum + self._backward(batch, count, index)
        return loss_sum

    def _backward(self, batch: Batch, count: Tensor, index: int, piece: int = 0) -> Tensor:
        """Add the gradient of a micro-batch, or of piece `piece` of it, over `count`; returns its summed loss."""
        loss_sum = self._zero()
        with _seeded_dropout(self.settings.seed, index, piece, self.device):
            for part in parts(batch, self.pieces):
                loss_sum += self._backward_part(part, count)
        return loss_sum

    def _backward_part(self, batch: Batch, count: Tensor) -> Tensor:
        loss_sum, objective = self._loss_sum(batch, self.model)
        self.scaler.scale(objective / count.clamp(min=1)).backward()
        return loss_sum

    def _loss_sum(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Loss on y/scale, and what is minimised: both summed over the micro-batch's defined targets, in float32."""
        with self.autocast:
            output = outputs(network, batch)
        q_hat_BHQ, targets_BH = output["quantiles"].float(), batch["targets"].float()
        if (scale_BH := batch.get("scale")) is not None:
            scale_BH = scale_BH.float()
            q_hat_BHQ, targets_BH = q_hat_BHQ / scale_BH[..., None], targets_BH / scale_BH
        loss_BH = self.loss.elements(q_hat_BHQ, targets_BH)["total"]
        loss, objective = loss_BH.sum().detach(), self._weighed(loss_BH)
        if not self.settings.realized_weight:
            return loss, objective
        if "realized" not in batch or "log_spread" not in output:
            raise ValueError(
                "expected `realized` in the batch and `log_spread` from the model, found one without: set "
                "train.realized_weight=0, or take NQDataModule and MIGT_TVDT"
            )
        realized_BH = batch["realized"].masked_fill(~torch.isfinite(targets_BH), torch.nan)
        realized = self._weighed(realized_loss(output["log_spread"].float(), realized_BH))
        return loss, objective + self.settings.realized_weight * realized

    def _weighed(self, loss_BH: Tensor) -> Tensor:
        """The sum, each horizon by its weight."""
        return (loss_BH * self.weights_H).sum()

    def _apply(self, loss_sum: Tensor, count: Tensor) -> StepResult:
        """Take the step that the gradients ask for, unless one of them is not finite."""
        self.scaler.unscale_(self.optimizer)
        grad_norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip_norm)
        # A pinball gradient is bounded: an infinite loss can hide behind a finite one.
        applied = torch.isfinite(grad_norm) & torch.isfinite(loss_sum)
        if self.rates is not None:
            self._update_on_device(applied, self.rates())
        elif bool(applied):
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss_sum, count, grad_norm, applied)

    def _update_on_device(self, applied: Tensor, rates: list[Tensor]) -> None:
        """The fused optimiser leaves weights, moments and its own count alone where `found_inf` is 1."""
        optimizer: Any = self.optimizer
        before = [group["lr"] for group in optimizer.param_groups]
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        optimizer.grad_scale, optimizer.found_inf = None, (~applied).float()
        optimizer.step()
        del optimizer.grad_scale, optimizer.found_inf
        for group, rate in zip(optimizer.param_groups, before, strict=True):
            group["lr"] = rate

    def rehearse(self, batch: Batch) -> float:
        """Seconds that a micro-batch takes, forward and backward, the second time; no weight or state changes."""
        seconds, pieces = 0.0, self.pieces
        for _ in range(2):
            started = time.perf_counter()
            self._retried([batch], lambda: self._backward(batch, self._defined([batch]), 0))
            self.optimizer.zero_grad(set_to_none=True)
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        self.pieces = pieces
        return seconds

    def _retried(self, batches: Sequence[Batch], attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns; where memory runs out, that of another one with twice as many pieces.

        Raises OutOfMemoryError where these may not be tried, or are single windows already.
        """
        while True:
            try:
                return attempt()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
            self._halve(batches)  # outside of the handler, whose error holds the graph

    def _halve(self, batches: Sequence[Batch]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.settings.halve or self.pieces >= max(map(n_windows, batches)):
            raise OutOfMemoryError(explanation(self.model, batches[0], self.pieces))
        self.pieces *= 2
        log.warning("out of memory: micro-batches go through the model in %d pieces from here on", self.pieces)

    def _zero(self) -> Tensor:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # mps has no float64
        return torch.zeros((), dtype=dtype, device=self.device)


@contextmanager
def _seeded_dropout(seed: int, index: int, piece: int, device: torch.device) -> Iterator[None]:
    """Within this context torch's generators start from (seed, index, piece); afterwards they are as before."""
    seed = (seed * 1_000_003 + index * 7_919 + 12_345 + piece * 32_416_190_071) % 2**63
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        # Not torch.manual_seed: for each kind of device that is absent it keeps a stack trace, most of a millisecond.
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        elif device.type == "mps":
            torch.mps.manual_seed(seed)
        yield


@dataclass(frozen=True)
class Counts:
    """The sums of a tally when it is read."""

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

"""One optimiser step over a group of micro-batches, equal to the step of one big batch."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.training import memory
from nqcast.training.loss_functions import CombinedQuantileLoss
from nqcast.training.precision import Precision

Batch = dict[str, Any]

log = logging.getLogger(__name__)


def forecast(model: nn.Module, batch: Batch) -> Tensor:
    """Quantiles (B, H, Q) in return units; the batch's optional keys are passed on when present."""
    output = model(
        batch["features"],
        batch.get("attention_mask"),
        batch.get("temporal_info"),
        batch.get("scale"),
        batch.get("unit_quantiles"),
    )
    return output["quantiles"]


@dataclass(frozen=True)
class StepResult:
    """What a step did: summed loss and count of defined targets (device scalars), gradient norm, whether applied."""

    loss_sum: Tensor
    count: Tensor
    grad_norm: float
    applied: bool


class Stepper:
    """Accumulate, unscale, clip, step, update, zero.

    `splits` is the number of pieces in which a micro-batch passes through the model: 1 until memory runs out and
    `halve` allows more. The gradient is the same, dropout's masks are others.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: CombinedQuantileLoss,
        precision: Precision,
        clip_norm: float,
        seed: int,
        halve: bool = False,
    ) -> None:
        self.halve, self.splits = halve, 1
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.precision, self.scaler = precision, precision.scaler()
        self.clip_norm, self.seed = clip_norm, seed
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def __call__(self, group: Sequence[Batch], first_index: int) -> StepResult:
        """Step on the mean loss over all defined targets of the group.

        The denominator is known from the targets before any forward pass, so unequal masks and a short last group
        weigh every target alike. `first_index` numbers the group's first micro-batch in the run; dropout depends on
        the seed and this number only.
        """
        count = torch.stack([torch.isfinite(batch["targets"]).sum() for batch in group]).sum()
        while (loss_sum := self._accumulate(group, first_index, count)) is None:
            self.splits *= 2
            log.warning("out of memory: micro-batches go through the model in %d pieces from here on", self.splits)
        self.scaler.unscale_(self.optimizer)
        grad_norm = float(nn.utils.clip_grad_norm_(self.parameters, self.clip_norm))
        # A pinball gradient is bounded: an infinite loss can hide behind a finite one.
        applied = grad_norm < float("inf") and bool(torch.isfinite(loss_sum))  # both False for NaN too
        if applied:
            self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(loss_sum, count, grad_norm, applied)

    def rehearse(self, batch: Batch) -> float:
        """Seconds that a micro-batch takes, forward and backward, the second time; no weight or state changes."""
        count = torch.isfinite(batch["targets"]).sum()
        seconds = 0.0
        for _ in range(2):
            started = time.perf_counter()
            self._accumulate([batch], 0, count)
            self.optimizer.zero_grad(set_to_none=True)
            if self.precision.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return seconds

    def _accumulate(self, group: Sequence[Batch], first_index: int, count: Tensor) -> Tensor | None:
        """Back-propagate the group; its summed loss, or None where memory ran out and smaller pieces may fit.

        Raises memory.OutOfMemoryError where they may not be tried, or are single windows already.
        """
        loss_sum = torch.zeros((), dtype=_sum_dtype(self.precision.device), device=self.precision.device)
        try:
            for i, batch in enumerate(group):
                with self._dropout(first_index + i):
                    for part in memory.parts(batch, self.splits):
                        micro_loss = self._loss_sum(part)
                        self.scaler.scale(micro_loss / count.clamp(min=1)).backward()
                        loss_sum += micro_loss.detach()
            return loss_sum
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
        # Outside of the handler, whose error holds the graph.
        self.optimizer.zero_grad(set_to_none=True)
        if self.precision.device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.halve or self.splits >= max(map(memory.n_windows, group)):
            raise memory.OutOfMemoryError(memory.explanation(self.model, group[0], self.splits))
        return None

    def _loss_sum(self, batch: Batch) -> Tensor:
        """Loss on y/scale, summed over the micro-batch's defined targets, in float32."""
        with self.precision.autocast():
            q_hat_BHQ = forecast(self.model, batch)
        q_hat_BHQ, targets_BH = q_hat_BHQ.float(), batch["targets"].float()
        if batch.get("scale") is not None:
            scale_BH = batch["scale"].float()
            q_hat_BHQ, targets_BH = q_hat_BHQ / scale_BH[..., None], targets_BH / scale_BH
        return self.loss.elements(q_hat_BHQ, targets_BH)["total"].sum()

    def _dropout(self, index: int) -> "_SeededDropout":
        return _SeededDropout(self.seed, index, self.precision.device)


class _SeededDropout:
    """Within this context torch's generators start from (seed, index); afterwards they are as before."""

    def __init__(self, seed: int, index: int, device: torch.device) -> None:
        self.seed = (seed * 1_000_003 + index * 7_919 + 12_345) % 2**63
        self.fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        self.fork.__enter__()
        torch.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64

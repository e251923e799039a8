"""One optimiser step over a group of micro-batches, equal to the step of one big batch."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.training import out_of_memory as memory
from nqcast.training.device import Precision
from nqcast.training.distributed.team import Portion, Team
from nqcast.training.loss_functions import CombinedQuantileLoss, realized_loss

Batch = dict[str, Any]

log = logging.getLogger(__name__)


def forecast(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """The model's output, with "quantiles" (B, H, Q) in return units; optional keys are passed on when present."""
    inputs = [batch.get(name) for name in ("attention_mask", "temporal_info", "scale", "unit_quantiles")]
    if batch.get("volatility") is not None:
        inputs.append(batch["volatility"])
    return model(batch["features"], *inputs)


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


class Stepper:
    """Accumulate, unscale, clip, step, update, zero.

    `splits` is the number of pieces in which a micro-batch passes through the model: 1 until memory runs out and
    `settings.halve` allows more. The gradient is the same, dropout's masks are others.

    `team` is the ranks that share a group. With `rates`, which gives the rate of each parameter group as a device
    scalar, a step is skipped or applied on the device and the host waits for nothing; the optimiser must be fused.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Optimizer,
        loss: CombinedQuantileLoss,
        precision: Precision,
        settings: StepSettings,
        team: Team | None = None,
        rates: Callable[[], list[Tensor]] | None = None,
    ) -> None:
        self.settings, self.splits, self.rates = settings, 1, rates
        self.team = team or Team()
        self.network = self.team.network(model)
        self.model, self.optimizer, self.loss = model, optimizer, loss
        self.precision, self.scaler = precision, precision.scaler()
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]

    def __call__(self, batches: Sequence[Batch], first_index: int, portion: Portion | None = None) -> StepResult:
        """Step on the mean loss over all defined targets of the group.

        The denominator is known from the targets before any forward pass, so unequal masks and a short last group
        weigh every target alike. `first_index` numbers the group's first micro-batch in the run; dropout depends on
        the seed and the micro-batch's number only. `batches` are the units of `portion`, this rank's part of the
        group; without one they are the whole group.
        """
        own = portion or self.team.portion(len(batches), len(batches))
        count = self.team.total(self._defined(batches))
        while (losses := self._accumulate(batches, own, first_index, count, self.team)) is None:
            self.splits *= 2
            log.warning("out of memory: micro-batches go through the model in %d pieces from here on", self.splits)
        loss_sum = self.team.finish(self.parameters, losses, own.n_units)
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

    def _defined(self, batches: Sequence[Batch]) -> Tensor:
        """Number of defined targets."""
        counts = [torch.isfinite(batch["targets"]).sum() for batch in batches]
        return torch.stack(counts).sum() if counts else torch.zeros((), dtype=torch.int64, device=self._device)

    @property
    def _device(self) -> torch.device:
        return self.precision.device

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
        alone, seconds = Team(), 0.0
        for _ in range(2):
            started = time.perf_counter()
            self._accumulate([batch], alone.portion(1, 1), 0, self._defined([batch]), alone)
            self.optimizer.zero_grad(set_to_none=True)
            if self.precision.device.type == "cuda":
                torch.cuda.synchronize()
            seconds = time.perf_counter() - started
        return seconds

    def _accumulate(
        self, batches: Sequence[Batch], own: Portion, first_index: int, count: Tensor, team: Team
    ) -> dict[int, Tensor] | None:
        """Back-propagate the units; {unit: summed loss}, or None where memory ran out and smaller pieces may fit.

        Raises memory.OutOfMemoryError where they may not be tried, or are single windows already.
        """
        network = self.network if team is self.team else self.model
        losses: dict[int, Tensor] = {}
        try:
            for share, batch in zip(own.shares, batches, strict=True):
                losses[share.unit] = torch.zeros((), dtype=_sum_dtype(self._device), device=self._device)
                pieces = memory.parts(batch, self.splits)
                with self._dropout(first_index + share.micro, share.piece):
                    for i, part in enumerate(pieces):
                        with team.backward(share is own.shares[-1] and i == len(pieces) - 1):
                            micro_loss, objective = self._loss_sum(part, network)
                            scaled = self.scaler.scale(objective / count.clamp(min=1))
                            (scaled if team.loss_factor == 1 else scaled * team.loss_factor).backward()
                        losses[share.unit] += micro_loss.detach()
                team.unit_done(self.parameters, share)
            return losses
        except RuntimeError as error:
            if not memory.is_out_of_memory(error):
                raise
        # Outside of the handler, whose error holds the graph.
        team.reset()
        self.optimizer.zero_grad(set_to_none=True)
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        if not self.settings.halve or self.splits >= max(map(memory.n_windows, batches)):
            raise memory.OutOfMemoryError(memory.explanation(self.model, batches[0], self.splits))
        return None

    def _loss_sum(self, batch: Batch, network: nn.Module) -> tuple[Tensor, Tensor]:
        """Loss on y/scale, and what is minimised: both summed over the micro-batch's defined targets, in float32."""
        with self.precision.autocast():
            output = forecast(network, batch)
        q_hat_BHQ, targets_BH = output["quantiles"].float(), batch["targets"].float()
        if batch.get("scale") is not None:
            scale_BH = batch["scale"].float()
            q_hat_BHQ, targets_BH = q_hat_BHQ / scale_BH[..., None], targets_BH / scale_BH
        loss = self.loss.elements(q_hat_BHQ, targets_BH)["total"].sum()
        if not self.settings.realized_weight:
            return loss, loss
        if "realized" not in batch or "log_spread" not in output:
            raise ValueError(
                "expected `realized` in the batch and `log_spread` from the model, found one without: set "
                "train.realized_weight=0, or take NQDataModule and MIGT_TVDT"
            )
        realized_BH = batch["realized"].masked_fill(~torch.isfinite(targets_BH), torch.nan)
        realized = realized_loss(output["log_spread"].float(), realized_BH).sum()
        return loss, loss + self.settings.realized_weight * realized

    def _dropout(self, index: int, piece: int) -> "_SeededDropout":
        return _SeededDropout(self.settings.seed, index, piece, self._device)


class _SeededDropout:
    """Within this context torch's generators start from (seed, index, piece); afterwards they are as before."""

    def __init__(self, seed: int, index: int, piece: int, device: torch.device) -> None:
        self.seed = (seed * 1_000_003 + index * 7_919 + 12_345 + piece * 32_416_190_071) % 2**63
        self.device = device
        self.fork = torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])

    def __enter__(self) -> None:
        self.fork.__enter__()
        # Not torch.manual_seed: for each kind of device that is absent it keeps a stack trace, most of a millisecond.
        torch.default_generator.manual_seed(self.seed)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(self.seed)
        elif self.device.type == "mps":
            torch.mps.manual_seed(self.seed)

    def __exit__(self, *error: Any) -> None:
        self.fork.__exit__(*error)


def _sum_dtype(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64

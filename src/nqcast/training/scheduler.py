"""How a run learns: its optimiser, its learning rates, and when it stops.

Rates are pure functions of two counters that the loop moves, micro-batches and epochs.
"""

import math
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from nqcast.training.config import TrainConfig


def build_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices. Loshchilov & Hutter (2019), "Decoupled weight decay regularization".

    Groups in the order of named_parameters: matrices with decay; vectors (biases, norms) without, and tables too where
    `config.decay_tables` is off; gains without decay at a rate of their own. A model says by `roles()`, {"tables" or
    "gains": parameters}, which of its parameters are such.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("expected a model with trainable parameters, found none; unfreeze some")
    roles: dict[str, list[nn.Parameter]] = getattr(model, "roles", dict)()
    tables, gains = (set(map(id, roles.get(name, ()))) for name in ("tables", "gains"))

    def group_of(parameter: nn.Parameter) -> str:
        if id(parameter) in gains and config.gain_rate != 1.0:
            return "gains"
        decays = parameter.dim() >= 2 and (config.decay_tables or id(parameter) not in tables)
        return "matrices" if decays else "vectors"

    groups: dict[str, dict[str, Any]] = {
        "matrices": {"params": [], "weight_decay": config.weight_decay},
        "vectors": {"params": [], "weight_decay": 0.0},
        "gains": {"params": [], "weight_decay": 0.0, "lr": config.gain_rate * config.learning_rate},
    }
    for parameter in trained:
        groups[group_of(parameter)]["params"].append(parameter)
    fused = all(parameter.device.type in ("cuda", "cpu") for parameter in trained)
    used = [group for group in groups.values() if group["params"]]
    return torch.optim.AdamW(used, lr=config.learning_rate, fused=fused)


def cosine_rate(base: float, position: int, t_0: int, t_mult: int, eta_min: float) -> float:
    """Rate `position` epochs into cosine annealing with warm restarts. Loshchilov & Hutter (2017), "SGDR"."""
    length = t_0
    while position >= length:
        position -= length
        length *= t_mult
    return eta_min + 0.5 * (base - eta_min) * (1.0 + math.cos(math.pi * position / length))


class Counters(TypedDict):
    """The counts from which a saved schedule goes on."""

    batches: int
    position: int


class _CountedScheduler:
    """Keeps the base rates and the counters, and writes the rates into the optimiser."""

    def __init__(self, optimizer: Optimizer, warmup_steps: int) -> None:
        if warmup_steps < 0:
            raise ValueError(f"expected warmup_steps of 0 or more, found {warmup_steps}; 0 means no warm-up")
        self.optimizer = optimizer
        self.warmup_steps = warmup_steps
        self.base_rates = [float(group.setdefault("initial_lr", group["lr"])) for group in optimizer.param_groups]
        self.batches = 0
        self.position = 0
        self._write()

    def rate(self, base: float) -> float:
        """Rate for a base rate at the present counters (per step)."""
        if self.batches < self.warmup_steps:
            return base * ((self.batches + 1) / self.warmup_steps)
        return self._warm_rate(base)

    def step_batch(self) -> None:
        """Count one micro-batch."""
        self.batches += 1
        self._write()

    def go_to(self, batches: int) -> None:
        """Set the count of micro-batches, where it was kept elsewhere."""
        self.batches = batches
        self._write()

    def rates_at(self, batches: Tensor) -> list[Tensor]:
        """Rate of each parameter group for a count that lives on a device (float64 scalar): nothing waits for it."""
        warm = ((batches + 1.0) / max(self.warmup_steps, 1)).clamp(max=1.0)
        before = (batches < self.warmup_steps).to(batches.dtype)
        return [(before * warm * base + (1.0 - before) * self._warm_rate(base)).float() for base in self.base_rates]

    def _warm_rate(self, base: float) -> float:
        """Rate after warm-up, in the present epoch."""
        return base

    def step(self) -> None:
        """Count one epoch; epochs that end during warm-up do not move the cosine."""
        if self.batches >= self.warmup_steps:
            self.position += 1
        self._write()

    def get_last_lr(self) -> list[float]:
        """Present rate of each parameter group (per step)."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def state_dict(self) -> Counters:
        """The counters; the rates follow from them."""
        return {"batches": self.batches, "position": self.position}

    def load_state_dict(self, state: Counters) -> None:
        """Set the counters and write the rates that follow from them."""
        self.batches, self.position = int(state["batches"]), int(state["position"])
        self._write()

    def _write(self) -> None:
        for group, base in zip(self.optimizer.param_groups, self.base_rates, strict=True):
            group["lr"] = self.rate(base)


class LinearWarmupScheduler(_CountedScheduler):
    """Linear warm-up over `warmup_steps` micro-batches, constant afterwards."""


class WarmupCosineScheduler(_CountedScheduler):
    """Linear warm-up by micro-batch, then cosine restarts by epoch.

    The cosine's position is the number of epochs ended since warm-up, that in which warm-up ended included; it is
    constant within an epoch.
    """

    def __init__(
        self, optimizer: Optimizer, warmup_steps: int, t_0: int, t_mult: int = 1, eta_min: float = 0.0
    ) -> None:
        if t_0 < 1 or t_mult < 1:
            raise ValueError(f"expected t_0 and t_mult of at least 1, found {t_0} and {t_mult}; give whole epochs")
        self.t_0, self.t_mult, self.eta_min = t_0, t_mult, eta_min
        super().__init__(optimizer, warmup_steps)

    def _warm_rate(self, base: float) -> float:
        return cosine_rate(base, self.position, self.t_0, self.t_mult, self.eta_min)


class Patience(TypedDict):
    """The best loss so far and the epochs since, from which early stopping goes on."""

    best: float | None  # None before the first finite loss
    bad_epochs: int


class EarlyStopping:
    """Stops after `patience` epochs in a row without a fall of more than `min_delta` below the best value.

    `min_delta` is in the loss's own units: give it a loss of order one. NaN never counts as improvement.
    """

    def __init__(self, patience: int = 10, min_delta: float = 1e-5) -> None:
        self.patience = patience
        self.min_delta = min_delta
        self.best = math.inf
        self.bad_epochs = 0

    @property
    def should_stop(self) -> bool:
        """True once `patience` epochs in a row brought nothing."""
        return self.bad_epochs >= self.patience

    def step(self, value: float) -> bool:
        """Take in one epoch's loss; True means stop."""
        if value < self.best - self.min_delta:
            self.best = value
            self.bad_epochs = 0
        else:
            self.bad_epochs += 1
        return self.should_stop

    __call__ = step

    def state_dict(self) -> Patience:
        """Best value (None before the first finite one) and the number of epochs since."""
        return {"best": self.best if math.isfinite(self.best) else None, "bad_epochs": self.bad_epochs}

    def load_state_dict(self, state: Patience) -> None:
        """Continue counting from a saved state."""
        self.best = math.inf if state["best"] is None else float(state["best"])
        self.bad_epochs = int(state["bad_epochs"])

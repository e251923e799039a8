"""Settings of a training run; the defaults are the published figures for one GPU."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nqcast.constants import HORIZONS, LEVELS
from nqcast.fields import Configuration

# Fields that may differ between a run and its continuation: they do not change what a step computes.
FREE_ON_RESUME = frozenset(
    {"epochs", "patience", "resume", "log_every", "top_k", "every_minutes", "device", "on_out_of_memory", "compile"}
    | {"devices", "hosts", "rendezvous", "max_restarts", "hang_minutes", "members", "refit"}
)
"""Fields in which a run that goes on may differ from how it began."""
WITHOUT_EFFECT = FREE_ON_RESUME - {"epochs", "patience", "members", "refit"}
"""Fields that change neither what is learnt nor when it ends."""


class TrainConfig(Configuration):
    """Optimiser, schedule, stopping, checkpoints and precision of a training run."""

    epochs: int = Field(default=100, ge=0, description="Most passes over the training anchors (epochs).")
    batch_size: int = Field(default=128, ge=1, description="Windows per micro-batch (windows).")
    accumulation: int = Field(default=2, ge=1, description="Micro-batches per optimiser step (count).")
    windows_per_epoch: Annotated[int, Field(ge=1)] | Literal["auto"] | None = Field(
        default=None,
        description="Random anchors drawn for each epoch; none = all of them, auto = by their number (windows).",
    )
    learning_rate: float = Field(default=1e-4, gt=0, description="Peak rate of AdamW (per step).")
    weight_decay: float = Field(
        default=0.01, ge=0, description="Decoupled decay of matrices; vectors have none (per unit rate)."
    )
    decay_tables: bool = Field(
        default=True,
        description="Decay not matrices alone, but vectors that are kept as tables too (patch biases, ages, clock "
        "waves, places in a pool).",
    )
    gain_rate: float = Field(
        default=1.0,
        gt=0,
        description="Rate of the gain through which attention enters, which starts at 0 (times learning_rate).",
    )
    clip_norm: float = Field(
        default=1.0, gt=0, description="Greatest global norm of a step's gradient (loss per weight)."
    )
    warmup_steps: int = Field(default=1000, ge=0, description="Linear warm-up (micro-batches).")
    t_0: int = Field(default=10, ge=1, description="Length of the first cosine cycle (epochs).")
    t_mult: int = Field(default=2, ge=1, description="Factor from one cosine cycle's length to the next (ratio).")
    eta_min: float = Field(default=1e-6, ge=0, description="Rate at a cosine cycle's end (per step).")
    patience: int = Field(default=10, ge=1, description="Epochs without improvement before the run stops (epochs).")
    min_delta: float = Field(
        default=1e-5, ge=0, description="Least fall of val_loss that counts as improvement (unit loss)."
    )
    crossing_weight: float = Field(default=0.0, ge=0, description="Weight of the crossing penalty in the loss (ratio).")
    sharpness_weight: float = Field(
        default=0.0, ge=0, description="Weight of the 80 % interval's width in the loss (ratio)."
    )
    realized_weight: float = Field(
        default=0.0,
        ge=0,
        description="Weight of an auxiliary loss: the spread also learns the horizon's realized volatility (ratio).",
    )
    horizon_weights: Literal["equal", "root", "auto"] = Field(
        default="equal",
        description="Weights of the horizons in the loss: equal, or root = 1 over the root of their length, since "
        "the outcomes of long ones overlap most; auto = by the number of train anchors. Metrics weigh all alike.",
    )
    top_k: int = Field(default=3, ge=1, description="Checkpoints kept by val_loss, beside the latest (count).")
    every_minutes: float | None = Field(
        default=10.0,
        gt=0,
        description="Also write a checkpoint inside an epoch after this time; none = never (minutes).",
    )
    max_skipped: int = Field(
        default=10, ge=1, description="Steps in a row with a non-finite gradient after which the run stops (steps)."
    )
    on_out_of_memory: Literal["stop", "halve"] = Field(
        default="stop", description="halve: micro-batches that do not fit are halved and accumulation doubles."
    )
    log_every: int = Field(default=50, ge=1, description="Optimiser steps between lines of metrics.jsonl (steps).")
    device: str = Field(default="auto", description="torch device; auto = cuda, then mps, then cpu.")
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto", description="Arithmetic of the forward pass; auto = bf16 where the GPU has it, fp32 otherwise."
    )
    compile: Literal["none", "default", "reduce-overhead"] = Field(
        default="none",
        description="torch.compile for each block; reduce-overhead also replays CUDA graphs. Needs a C++ compiler.",
    )
    devices: int | Literal["auto"] = Field(
        default=1,
        description="Processes that share each step on this host, one per GPU; auto = all GPUs, 1 on the CPU (count).",
    )
    hosts: int = Field(default=1, ge=1, description="Hosts with that many processes each (count).")
    rendezvous: str = Field(
        default="", description="host:port where several hosts meet; one host needs none and opens no port."
    )
    max_restarts: int = Field(
        default=3, ge=0, description="How often a run whose process died goes on from its last checkpoint (count)."
    )
    hang_minutes: float = Field(
        default=10.0,
        gt=0,
        description="Several processes: silence of one, after which the run ends with its stack (minutes).",
    )
    seed: int = Field(default=0, ge=0, description="Seed of weights, order and dropout.")
    members: Annotated[int, Field(ge=1, le=16)] | Literal["auto"] = Field(
        default=1,
        description="Networks that are trained from seed, seed + 1, … and forecast as one by the mean of their "
        "quantiles; auto = by the number of train anchors (count).",
    )
    refit: bool | Literal["auto"] = Field(
        default=False,
        description="Train once more when validation has judged and calibrated, on all of validation but its latest 60 "
        "sessions too; what comes of it forecasts. auto = by the number of train anchors.",
    )
    deterministic: bool = Field(
        default=False, description="Take only kernels that give the same bits every time; slower on a GPU."
    )
    resume: Literal["auto", "never"] = Field(
        default="auto", description="auto continues the run found in the directory; never starts anew."
    )
    quantiles: tuple[float, ...] = Field(default=LEVELS, min_length=1, description="Levels of the forecast, rising.")
    horizons: tuple[str, ...] = Field(
        default=tuple(HORIZONS), min_length=1, description="Names of the horizons, in the targets' order."
    )
    start_name: str = Field(
        default="start",
        min_length=1,
        description="Name of the forecast that the untrained model returns (seasonal_har, …).",
    )

    @model_validator(mode="after")
    def _check_devices(self) -> "TrainConfig":
        if self.devices != "auto" and self.devices < 1:
            raise ValueError(f"expected devices of at least 1, or auto, found {self.devices}; choose one")
        if self.hosts > 1 and ":" not in self.rendezvous:
            raise ValueError(
                f"expected rendezvous=host:port for {self.hosts} hosts, found {self.rendezvous!r}; name the first host "
                "and a free port there"
            )
        return self

    @model_validator(mode="after")
    def _check_levels(self) -> "TrainConfig":
        levels = self.quantiles
        if levels[0] <= 0 or levels[-1] >= 1 or any(a >= b for a, b in pairwise(levels)):
            raise ValueError(f"expected rising levels between 0 and 1, found {levels}; sort them")
        if self.eta_min > self.learning_rate:
            raise ValueError(
                f"expected eta_min at most learning_rate, found {self.eta_min} and {self.learning_rate}; lower eta_min"
            )
        return self

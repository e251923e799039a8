"""What the model's choices for a CPU are worth: attention by plain products, tanh GELU, compiled blocks, fused kernels,
bf16; what fused kernels are worth at other sizes; memory and time that checkpointed activations save and cost.

`python -m benchmarks.model_choices`. The first row is the laptop model on torch's operations alone; every other one
changes what it says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.material import BareStep, random_batch
from benchmarks.measuring import PeakMemory, Row, in_own_process, main, quick, seconds_per_call
from torch import nn

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training.device import Precision, compile_regions, pick_device

BATCH = 128
PLAIN = "plain kernels: attention by products, tanh GELU, eager, fp32"
CHOICES: dict[str, dict[str, Any]] = {
    "fused kernels, as they ship": {"model": {"kernels": "fused"}},
    "fused kernels, bf16": {"model": {"kernels": "fused"}, "precision": "bf16"},
    "fused attention kernel": {"model": {"attention": "sdpa"}},
    "exact GELU": {"exact_gelu": True},
    "bf16": {"precision": "bf16"},
    "bf16, fused attention kernel": {"precision": "bf16", "model": {"attention": "sdpa"}},
    "compiled blocks": {"compile": "default"},
}
SIZES: dict[str, dict[str, Any]] = {
    "patch 6": {"patch_length": 6},
    "patch 4": {"patch_length": 4},
    "patch 2": {"patch_length": 2},
    "d_model 64": {"d_model": 64, "d_ff": 128},
    "d_model 128": {"d_model": 128, "d_ff": 256, "n_heads": 4},
}


def run_case(
    model: dict[str, Any], precision: str = "fp32", compile: str = "none", exact_gelu: bool = False, batch: int = BATCH
) -> dict[str, float]:
    """Seconds of a training step and the rise of the resident memory in it (MB)."""
    cpu = pick_device("cpu")
    net = fuse(MIGT_TVDT(ModelConfig(**{"kernels": "plain", **model}), seed=0)).train()
    if exact_gelu:
        for part in net.modules():
            if isinstance(part, nn.GELU):
                part.approximate = "none"
    compile_regions(net, compile, cpu)
    step = BareStep(net, torch.optim.AdamW(net.parameters(), fused=True), Precision(precision, cpu).autocast())
    data = random_batch(net.config, batch)
    with PeakMemory() as peak:
        step(data)
    return {"seconds": seconds_per_call(lambda: step(data), warm=2), "peak_mb": peak.mb}


def measure() -> Iterator[Row]:
    """Laptop size by choice, then checkpointed activations by context."""
    first = in_own_process("benchmarks.model_choices", {"model": {}})
    rate = BATCH / first["seconds"]
    yield Row(PLAIN, rate, "windows/s", 1.0, "of itself", first["peak_mb"])
    for name, case in CHOICES.items():
        found = in_own_process("benchmarks.model_choices", {"model": {}, **case})
        faster = first["seconds"] / found["seconds"]
        yield Row(name, BATCH / found["seconds"], "windows/s", faster, "of the first row", found["peak_mb"])
    yield from _other_sizes()
    for context in (288, 576) if quick() else (288, 576, 1152):
        model = {"context": context, "patch_length": 2, "n_time_blocks": 4}
        plain, kept = (
            in_own_process("benchmarks.model_choices", {"model": {**model, "activation_checkpointing": on}, "batch": 4})
            for on in (False, True)
        )
        yield Row(
            f"activation checkpointing, {context // 2} tokens × 4 blocks", kept["peak_mb"], "MB",
            kept["peak_mb"] / plain["peak_mb"], "of the memory without", kept["peak_mb"],
            f"{kept['seconds'] / plain['seconds']:.2f} × the time",
        )  # fmt: skip


def _other_sizes() -> Iterator[Row]:
    """Plain and fused kernels, fp32 and bf16, in batches of 32; the ratio is to plain fp32 of the same size."""
    for name, sizes in list(SIZES.items())[:: 2 if quick() else 1]:
        plain = None
        for kernels in ("plain", "fused"):
            for precision in ("fp32", "bf16"):
                case = {"model": {**sizes, "kernels": kernels}, "precision": precision, "batch": 32}
                found = in_own_process("benchmarks.model_choices", case)
                plain = plain or found["seconds"]
                faster = plain / found["seconds"]
                text = f"{name}, {kernels} {precision}"
                yield Row(text, 32 / found["seconds"], "windows/s", faster, "of plain fp32", found["peak_mb"])


if __name__ == "__main__":
    main(measure)

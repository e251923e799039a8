"""Cost against bars, context, variables and batch: a table, and docs/images/scaling.png."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import matplotlib
import torch
from benchmarks.material import BareStep, long_bars, random_batch
from benchmarks.measuring import ROOT, Row, main, quick, seconds_per_call

from nqcast.data.features import build_features
from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training.device import pick_device

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BARS = (50_000, 100_000, 200_000, 400_000, 800_000)
CONTEXTS, VARIABLES, BATCHES = (72, 144, 288, 576, 1152), (6, 12, 24, 48), (16, 32, 64, 128, 256)
Curve = dict[int, float]


def training_step(batch: int = 64, **model: Any) -> float:
    """Seconds of an eager fp32 step of the laptop model."""
    network = fuse(MIGT_TVDT(ModelConfig(**model), seed=0)).train()
    step = BareStep(network, torch.optim.AdamW(network.parameters()), torch.autocast("cpu", enabled=False))
    data = random_batch(network.config, batch)
    return seconds_per_call(lambda: step(data))


def curves() -> dict[str, Curve]:
    """Seconds by size: of a feature table, of a step (batch 64), and of a window by batch."""
    pick_device("cpu")
    bars = long_bars(BARS[-1])
    ends = slice(None, None, 2 if quick() else 1)
    return {
        "bars": {n: seconds_per_call(lambda n=n: build_features(bars.iloc[:n])) for n in BARS[ends]},
        "context": {n: training_step(context=n) for n in CONTEXTS[ends]},
        "variables": {n: training_step(n_features=n) for n in VARIABLES[ends]},
        "batch": {n: training_step(batch=n) for n in BATCHES[ends]},
    }


def draw(found: dict[str, Curve]) -> None:
    """Four panels on double logarithms, each with the line of proportional cost through its first point."""
    titles = {
        "bars": "Feature table, seconds by bars",
        "context": "Training step, seconds by bars of context",
        "variables": "Training step, seconds by variables",
        "batch": "Training step, seconds by windows in a batch",
    }
    figure, axes = plt.subplots(1, 4, figsize=(15, 3.6), constrained_layout=True)
    for axis, (name, curve) in zip(axes, found.items(), strict=True):
        sizes, seconds = list(curve), list(curve.values())
        axis.loglog(sizes, seconds, "o-", color="#0072B2", label="measured")
        axis.loglog(sizes, [seconds[0] * n / sizes[0] for n in sizes], ":", color="black", label="proportional")
        axis.set_title(titles[name], fontsize=10)
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes], fontsize=8, rotation=30)
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=8)
    figure.savefig(ROOT / "docs" / "images" / "scaling.png", dpi=110)


def measure() -> Iterator[Row]:
    """Every point; its ratio is cost per unit relative to the first point of its curve (1 = proportional)."""
    found = curves()
    if not quick():
        draw(found)
    for name, curve in found.items():
        first = next(iter(curve.items()))
        for size, seconds in curve.items():
            relative = seconds / size / (first[1] / first[0])
            yield Row(f"{name} {size:,}", 1e3 * seconds, "ms", relative, f"of the cost per unit at {first[0]:,}")


if __name__ == "__main__":
    main(measure)

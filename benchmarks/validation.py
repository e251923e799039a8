"""The validation pass: windows per second with all its metrics, beside the bare forward pass."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.ceilings import device
from benchmarks.material import data_module
from benchmarks.measuring import Row, main, quick, seconds_per_call

from nqcast.batches import outputs
from nqcast.constants import LEVELS
from nqcast.data.windows import WindowLoader
from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training.device import Precision, pick_device
from nqcast.training.validation import validation_sums


def measure() -> Iterator[Row]:
    """Laptop model, fp32, batches of 128."""
    module = data_module(40)
    place = pick_device(device())
    model = fuse(MIGT_TVDT(ModelConfig(), seed=0)).to(place).eval()
    positions = module.train_loader.positions[: 1024 if quick() else 4096]
    loader = WindowLoader(module.table, positions, 128)
    batches = list(loader)

    def forward() -> None:
        with torch.inference_mode():
            for batch in batches:
                outputs(model, batch)

    precision = Precision("fp32", place)
    whole = len(positions) / seconds_per_call(lambda: validation_sums(model, loader, precision, LEVELS))
    bare = len(positions) / seconds_per_call(forward)
    yield Row("validation with metrics, laptop fp32", whole, "windows/s", whole / bare, "of the bare forward pass")
    yield Row("forward pass, batch 128, laptop fp32", bare, "windows/s", 1.0, "itself")


if __name__ == "__main__":
    main(measure)

"""Input: windows per second of a gather, beside a DataLoader that slices sample by sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from benchmarks.ceilings import copy_bytes
from benchmarks.material import data_module, windows_of
from benchmarks.measuring import Row, main, quick, seconds_per_call
from torch.utils.data import DataLoader, Dataset

from nqcast.constants import CLOCK, FEATURES, TARGETS
from nqcast.data.data_module import NQDataModule

BATCH = 128


class WindowDataset(Dataset):
    """The way of the tutorials: one window a sample, cut out of numpy arrays, put together by the default collate."""

    def __init__(self, module: NQDataModule, positions: np.ndarray) -> None:
        frame, self.context = module.features, module.table.context
        self.features = frame[list(FEATURES)].to_numpy(np.float32)
        self.targets = frame[list(TARGETS)].to_numpy(np.float32)
        self.clock = {name: frame[name].to_numpy(np.int64, copy=True) for name in CLOCK}
        self.scale, self.positions = module.scale_NH.astype(np.float32), positions

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> dict[str, object]:
        position = int(self.positions[index])
        window = slice(position - self.context + 1, position + 1)
        return {
            "features": torch.from_numpy(self.features[window]),
            "targets": torch.from_numpy(self.targets[position]),
            "temporal_info": {name: torch.from_numpy(values[window]) for name, values in self.clock.items()},
            "scale": torch.from_numpy(self.scale[position]),
        }


def sample_loader(module: NQDataModule, count: int, workers: int) -> DataLoader:
    """A shuffled DataLoader over `count` windows."""
    dataset = WindowDataset(module, windows_of(module, count))
    return DataLoader(dataset, BATCH, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=workers > 0)


def measure() -> Iterator[Row]:
    """The loader of the training, and the DataLoader without and with worker processes."""
    module = data_module(40)
    count = BATCH * (8 if quick() else 24)
    positions = np.random.default_rng(0).permutation(windows_of(module, count))
    rates = {}
    for workers in (0, 2):
        loader = sample_loader(module, count, workers)
        rates[workers] = count / seconds_per_call(lambda loader=loader: sum(1 for _ in loader), least=2)

    def gathers() -> None:
        for start in range(0, count, BATCH):
            module.table.gather(positions[start : start + BATCH], full=True)

    ours = count / seconds_per_call(gathers)
    batch = module.table.gather(positions[:BATCH], full=True)
    size = sum(t.numel() * t.element_size() for t in (batch["features"], *batch["temporal_info"].values())) / BATCH
    share = f"{100 * 2 * size * ours / copy_bytes():.0f} % of the memory copy"
    yield Row(
        "gather on the table's device",
        ours,
        "windows/s",
        ours / max(rates.values()),
        "the better DataLoader",
        note=share,
    )
    for workers, rate in rates.items():
        yield Row(
            f"DataLoader, one sample at a time, {workers} workers", rate, "windows/s", rate / ours, "of the gather"
        )


if __name__ == "__main__":
    main(measure)

"""Loaders: batches of windows whose order is a function of seed and epoch alone."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch

from nqcast.data.windows import Batch, WindowTable


class WindowLoader:
    """Iterable over the windows that end at `positions`; with a seed in random order, without one in time order.

    Args:
        table: windows of all rows.
        positions: anchors (N,), rows of the table.
        batch_size: windows per batch; the last batch may be smaller.
        seed: order of epoch e is a permutation drawn from (seed, e); None keeps the order of `positions`.
        windows_per_epoch: take only the first so many of the permutation (a random subset of the anchors).
    """

    def __init__(
        self,
        table: WindowTable,
        positions: np.ndarray,
        batch_size: int,
        seed: int | None = None,
        windows_per_epoch: int | None = None,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1; found {batch_size}: raise it")
        if windows_per_epoch is not None and seed is None:
            raise ValueError("windows_per_epoch draws anchors at random; found no seed: give one")
        self.table, self.positions, self.batch_size, self.seed = table, np.asarray(positions), batch_size, seed
        self.n_windows = min(len(self.positions), windows_per_epoch or len(self.positions))
        self.epoch = 0
        self._full = len(self.positions) == 0 or int(self.positions.min()) >= table.context - 1

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def order(self) -> np.ndarray:
        """Positions of this epoch, in the order in which they are handed out."""
        if self.seed is None:
            return self.positions
        rng = np.random.default_rng([self.seed, self.epoch])
        return self.positions[rng.permutation(len(self.positions))[: self.n_windows]]

    def __len__(self) -> int:
        return -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Batches of this epoch from number `start` on, as a resumed run needs them."""
        return self.numbered(range(start, len(self)))

    def numbered(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """Batches of this epoch with these numbers, as one of several ranks needs them; no other one is gathered."""
        order_N = torch.from_numpy(self.order()).to(self.table.device)
        parts = order_N.split(self.batch_size)
        for number in numbers:
            yield self.table.gather(parts[number], full=self._full)

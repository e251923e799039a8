"""Windows: the last `context` rows of the feature table, gathered on the device, and the loader that orders them.

No Python runs per window; the order of a loader is a function of seed and epoch alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Literal

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nqcast.batches import Batch
from nqcast.constants import CLOCK, CONTEXT
from nqcast.data.own_features import feature_names
from nqcast.horizons import target_names


class WindowTable:
    """The feature table as one (N, F) float32 tensor on a device; a batch is a gather of (B, context, F).

    The windows of all rows are a strided view of the table in which each is one contiguous run of context·F numbers, so
    a gather copies whole runs and computes no index per bar.

    Args:
        features: the feature table of N rows.
        scale_NH: scale of every row in return units; None leaves `scale` out of the batches.
        device: where the tensors live.
        context: bars per window.
        unit_quantiles: quantiles of y/scale, (H, Q) or one table per row (N, H, Q); None leaves them out.
        volatility_NK: the scale's own predictors of every row; None leaves `volatility` out of the batches.
        realized_NH: realized volatility over each target's horizon, in scales; None leaves `realized` out.
    """

    def __init__(
        self,
        features: pd.DataFrame,
        scale_NH: np.ndarray | None = None,
        device: str | torch.device = "cpu",
        context: int = CONTEXT,
        unit_quantiles: np.ndarray | None = None,
        volatility_NK: np.ndarray | None = None,
        realized_NH: np.ndarray | None = None,
    ) -> None:
        self.context, self.n_rows, self.device = context, len(features), torch.device(device)
        self.features_NF = self._tensor(features[list(feature_names(features))].to_numpy(np.float32))
        self.targets_NH = self._tensor(features[target_names(features.columns)].to_numpy(np.float32))
        # one narrow table: the four clocks are one gather of a quarter of their size
        self.clock_N4 = self._tensor(features[list(CLOCK)].to_numpy(np.int16))
        self.scale_NH = None if scale_NH is None else self._tensor(self._checked_scale(scale_NH))
        self.unit_quantiles = None if unit_quantiles is None else self._tensor(unit_quantiles.astype(np.float32))
        self.per_row: dict[Literal["volatility", "realized"], Tensor] = {}
        if volatility_NK is not None:
            self.per_row["volatility"] = self._tensor(volatility_NK.astype(np.float32))
        if realized_NH is not None:
            self.per_row["realized"] = self._tensor(realized_NH.astype(np.float32))

    def gather(self, positions: np.ndarray | Tensor, full: bool | None = None) -> Batch:
        """Batch of the windows that end at `positions` (B,), rows of the table.

        `full` says that no window reaches before the data begin; None looks, for which a GPU must be waited for.

        Returns:
            features (B, T, F); targets (B, H) in return units with NaN where undefined; temporal_info, four (B, T)
            int16; scale (B, H), unit_quantiles (H, Q) or (B, H, Q), volatility (B, K) and realized (B, H) where the
            table has them; attention_mask (B, T), True on real bars, only when a window reaches before the data begin
            (its pads are 0).

        Raises:
            IndexError: a position outside the table.
        """
        position_B = torch.as_tensor(positions, dtype=torch.int64, device=self.device)
        early = not full if full is not None else bool((position_B < self.context - 1).any())
        take = self._padded if early else self._full
        batch: Batch = {
            "features": take(self.features_NF, position_B),
            "targets": self.targets_NH.index_select(0, position_B),
            "temporal_info": dict(zip(CLOCK, take(self.clock_N4, position_B).unbind(-1), strict=True)),
        }
        if early:
            batch["attention_mask"] = self._rows(position_B) >= 0
        if self.scale_NH is not None:
            batch["scale"] = self.scale_NH.index_select(0, position_B)
        if self.unit_quantiles is not None:
            per_row = self.unit_quantiles.dim() == 3
            batch["unit_quantiles"] = self.unit_quantiles[position_B] if per_row else self.unit_quantiles
        for name, column_NK in self.per_row.items():
            batch[name] = column_NK.index_select(0, position_B)
        return batch

    def _full(self, table: Tensor, position_B: Tensor) -> Tensor:
        width = table[0].numel()
        runs = table.as_strided((self.n_rows - self.context + 1, self.context * width), (width, 1))
        taken = runs.index_select(0, position_B - (self.context - 1))
        return taken.view(len(position_B), self.context, *table.shape[1:])

    def _padded(self, table: Tensor, position_B: Tensor) -> Tensor:
        row_BT = self._rows(position_B)
        taken = table[row_BT.clamp(min=0)]
        return torch.where((row_BT >= 0).view(*row_BT.shape, *[1] * (table.dim() - 1)), taken, torch.zeros_like(taken))

    def _rows(self, position_B: Tensor) -> Tensor:
        return position_B[:, None] + torch.arange(1 - self.context, 1, device=self.device)

    def _tensor(self, values: np.ndarray) -> Tensor:
        # A copy, since pandas hands out arrays that may not be written; row by row, since windows are runs of rows.
        return torch.tensor(values, device=self.device).contiguous()

    def _checked_scale(self, scale_NH: np.ndarray) -> np.ndarray:
        expected = (self.n_rows, self.targets_NH.shape[1])
        if scale_NH.shape != expected or not (np.isfinite(scale_NH) & (scale_NH > 0)).all():
            raise ValueError(
                f"expected a finite scale above 0 of shape {expected}, found shape {scale_NH.shape} with smallest "
                f"{np.min(scale_NH)}: take it from transform of the same features"
            )
        return scale_NH.astype(np.float32)


class EpochLoader(ABC):
    """Batches whose order in an epoch is known from its number: a resumed run, or a rank of several, takes some."""

    batch_size: int
    n_windows: int
    epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order the next iteration takes."""
        self.epoch = epoch

    def __len__(self) -> int:
        return -(-self.n_windows // self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        return self.numbered(range(len(self)))

    @abstractmethod
    def numbered(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """Batches of this epoch with these numbers; no other one is gathered."""


class WindowLoader(EpochLoader):
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
            raise ValueError(f"expected a batch_size of at least 1, found {batch_size}: raise it")
        if windows_per_epoch is not None and seed is None:
            raise ValueError("expected a seed, by which windows_per_epoch draws anchors, found none: give one")
        self.table, self.positions, self.batch_size, self.seed = table, np.asarray(positions), batch_size, seed
        self.n_windows = min(len(self.positions), windows_per_epoch or len(self.positions))
        self._full = len(self.positions) == 0 or int(self.positions.min()) >= table.context - 1

    def order(self) -> np.ndarray:
        """Positions of this epoch, in the order in which they are handed out."""
        if self.seed is None:
            return self.positions
        rng = np.random.default_rng([self.seed, self.epoch])
        return self.positions[rng.permutation(len(self.positions))[: self.n_windows]]

    def numbered(self, numbers: Iterable[int]) -> Iterator[Batch]:
        """Batches of this epoch with these numbers, as one of several ranks needs them; no other one is gathered."""
        order_N = torch.from_numpy(self.order()).to(self.table.device)
        parts = order_N.split(self.batch_size)
        for number in numbers:
            yield self.table.gather(parts[number], full=self._full)

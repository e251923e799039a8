"""Windows: the last `context` rows of the feature table, gathered on the device without per-sample Python."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from nqcast.constants import CLOCK, CONTEXT, FEATURES, HORIZONS, TARGETS

Batch = dict[str, Tensor | dict[str, Tensor]]

_OPTIONAL_INPUTS = ("attention_mask", "temporal_info", "scale", "unit_quantiles", "volatility")


def model_inputs(batch: Mapping[str, Any]) -> tuple[Any, ...]:
    """What the network takes of a batch, in the order of its arguments; None for what the batch has not."""
    return (batch["features"], *(batch.get(name) for name in _OPTIONAL_INPUTS))


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
        self.features_NF = self._tensor(features[list(FEATURES)].to_numpy(np.float32))
        self.targets_NH = self._tensor(features[list(TARGETS)].to_numpy(np.float32))
        # one narrow table: the four clocks are one gather of a quarter of their size
        self.clock_N4 = self._tensor(features[list(CLOCK)].to_numpy(np.int16))
        self.scale_NH = None if scale_NH is None else self._tensor(self._checked_scale(scale_NH))
        self.unit_quantiles = None if unit_quantiles is None else self._tensor(unit_quantiles.astype(np.float32))
        per_row = {"volatility": volatility_NK, "realized": realized_NH}
        self.per_row = {k: self._tensor(v.astype(np.float32)) for k, v in per_row.items() if v is not None}

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
        batch |= {name: column.index_select(0, position_B) for name, column in self.per_row.items()}
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
        expected = (self.n_rows, len(HORIZONS))
        if scale_NH.shape != expected or not (np.isfinite(scale_NH) & (scale_NH > 0)).all():
            raise ValueError(
                f"a scale must be finite, above 0 and of shape {expected}; found shape {scale_NH.shape} with smallest "
                f"{np.min(scale_NH)}: take it from transform of the same features"
            )
        return scale_NH.astype(np.float32)

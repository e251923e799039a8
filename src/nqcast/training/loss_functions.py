"""Quantile losses and the sums from which every validation metric is made.

Shapes: B batch · H horizons · Q levels. A target that is NaN is undefined and takes no part.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import torch
from torch import Tensor, nn

from nqcast.constants import level_name

INTERVALS = {"80": (0.10, 0.90), "50": (0.25, 0.75)}


def interval_columns(levels: Sequence[float]) -> dict[str, tuple[int, int]]:
    """Positions of the central intervals' bounds, found by level; intervals without both bounds are left out."""
    names = [level_name(level) for level in levels]
    wanted = {name: (level_name(low), level_name(high)) for name, (low, high) in INTERVALS.items()}
    return {
        name: (names.index(low), names.index(high))
        for name, (low, high) in wanted.items()
        if low in names and high in names
    }


def pinball_elements(predictions: Tensor, targets: Tensor, levels: Tensor) -> Tensor:
    """Pinball loss of every element: τ(y − q) where y ≥ q, (1 − τ)(q − y) elsewhere. Koenker & Bassett (1978).

    Args:
        predictions: (..., Q). targets: (...), NaN where undefined. levels: (Q).

    Returns:
        (..., Q), exactly 0 (gradient too) where the target is undefined.
    """
    defined = torch.isfinite(targets)[..., None]
    error = torch.where(defined, targets[..., None] - predictions, 0.0)
    return torch.maximum(levels * error, (levels - 1.0) * error)


def realized_loss(log_spread_BH: Tensor, realized_BH: Tensor) -> Tensor:
    """Laplace quasi-likelihood of realized volatility, log s + v / s, elementwise (B, H); 0 where v is NaN.

    The spread s that minimises its mean is the conditional mean of v: one return says little of the volatility that it
    was drawn with, the path of its horizon says much (Andersen & Bollerslev, 1998, "Answering the skeptics").

    Args:
        log_spread_BH: log of the forecast spread, in nats.
        realized_BH: realized volatility over the horizon, in the same units, of mean about 1.
    """
    defined_BH = torch.isfinite(realized_BH)
    v_BH = torch.where(defined_BH, realized_BH, torch.zeros_like(realized_BH))
    return torch.where(defined_BH, log_spread_BH + v_BH * torch.exp(-log_spread_BH), torch.zeros_like(log_spread_BH))


class PinballLoss(nn.Module):
    """Mean pinball loss over levels and defined targets."""

    levels: Tensor

    def __init__(self, quantiles: Sequence[float]) -> None:
        super().__init__()
        self.quantiles = tuple(quantiles)
        self.register_buffer("levels", torch.tensor(self.quantiles, dtype=torch.float32), persistent=False)

    def elements(self, predictions: Tensor, targets: Tensor) -> Tensor:
        """Loss per target, the mean over levels: predictions (..., Q), targets (...) -> (...), 0 where undefined."""
        self._check_shapes(predictions, targets)
        return pinball_elements(predictions, targets, self.levels.to(predictions.dtype)).mean(-1)

    def forward(self, predictions: Tensor, targets: Tensor) -> Tensor:
        return defined_mean(self.elements(predictions, targets), targets)

    def _check_shapes(self, predictions: Tensor, targets: Tensor) -> None:
        expected = (*targets.shape, len(self.quantiles))
        if tuple(predictions.shape) != expected:
            raise ValueError(
                f"expected predictions of shape {expected} (targets' shape and one value per level), found "
                f"{tuple(predictions.shape)}; pass (batch, horizon, level) and (batch, horizon)"
            )


def defined_mean(elements: Tensor, targets: Tensor) -> Tensor:
    """Sum over the elements ÷ number of defined targets (0 when none is defined)."""
    return elements.sum() / torch.isfinite(targets).sum().clamp(min=1)


class CombinedQuantileLoss(nn.Module):
    """Pinball loss plus optional penalties, in the targets' units.

    crossing: mean over adjacent pairs of max(0, q_lower − q_upper); sharpness: width of the 80 % interval (of the
    widest one where a level is missing). total = pinball + crossing_weight · crossing + sharpness_weight · sharpness.
    """

    def __init__(self, quantiles: Sequence[float], crossing_weight: float = 0.0, sharpness_weight: float = 0.0) -> None:
        super().__init__()
        self.pinball = PinballLoss(quantiles)
        self.crossing_weight = crossing_weight
        self.sharpness_weight = sharpness_weight
        self.band = interval_columns(quantiles).get("80", (0, len(quantiles) - 1))

    def elements(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Each part per target, (...), 0 where the target is undefined."""
        pinball = self.pinball.elements(predictions, targets)
        defined = torch.isfinite(targets)
        low, high = self.band
        if predictions.shape[-1] > 1:
            crossing = torch.where(defined, (-predictions.diff(dim=-1)).clamp(min=0.0).mean(-1), 0.0)
        else:
            crossing = torch.zeros_like(pinball)
        sharpness = torch.where(defined, predictions[..., high] - predictions[..., low], 0.0)
        total = pinball
        if self.crossing_weight:
            total = total + self.crossing_weight * crossing
        if self.sharpness_weight:
            total = total + self.sharpness_weight * sharpness
        return {"total": total, "pinball": pinball, "crossing": crossing, "sharpness": sharpness}

    def forward(self, predictions: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Means over defined targets: predictions (B, H, Q) and targets (B, H) -> {'total', 'pinball', …}."""
        parts = self.elements(predictions, targets)
        return {name: defined_mean(values, targets) for name, values in parts.items()}

    @torch.no_grad()
    def get_metrics(self, predictions: Tensor, targets: Tensor) -> dict[str, float]:
        """Metrics of one set of forecasts: predictions (B, H, Q) or (B, Q), targets (B, H) or (B).

        Keys: loss, loss_qXX, loss_h1 … loss_hH, coverage_qXX, picp_80, picp_50, interval_80_mean, interval_50_mean,
        crossing_rate. `metric_values` gives the same with the horizons' names and per horizon.
        """
        if targets.dim() == 1:
            predictions, targets = predictions[:, None], targets[:, None]
        levels = self.pinball.quantiles
        sums = MetricSums.zeros(targets.shape[1], len(levels), predictions.device)
        sums.add(predictions, targets, None, levels)
        values = metric_values(sums, levels, [f"h{i + 1}" for i in range(targets.shape[1])])
        values["loss"] = values.pop("val_loss_returns")
        del values["val_loss"]
        return values


@dataclass
class MetricSums:
    """Sums over defined targets, kept on the device in float64; ratios are taken once, in `metric_values`."""

    count_H: Tensor
    rows_H: Tensor
    crossed_H: Tensor
    loss_HQ: Tensor
    unit_loss_HQ: Tensor
    below_HQ: Tensor
    inside_HI: Tensor
    width_HI: Tensor

    @classmethod
    def zeros(cls, n_horizons: int, n_levels: int, device: torch.device | str) -> "MetricSums":
        """Empty sums (float32 on mps, which has no float64)."""
        dtype = torch.float32 if torch.device(device).type == "mps" else torch.float64

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(*shape, dtype=dtype, device=device)

        per_level, per_interval = (n_horizons, n_levels), (n_horizons, len(INTERVALS))
        return cls(
            zeros(n_horizons), zeros(n_horizons), zeros(n_horizons),
            zeros(*per_level), zeros(*per_level), zeros(*per_level),
            zeros(*per_interval), zeros(*per_interval),
        )  # fmt: skip

    @torch.no_grad()
    def add(self, predictions: Tensor, targets: Tensor, scale_BH: Tensor | None, levels: Sequence[float]) -> None:
        """Take in one batch: predictions (B, H, Q) and targets (B, H) in return units, scale (B, H) or None for 1."""
        dtype = self.count_H.dtype
        defined = torch.isfinite(targets)
        q_hat, y = predictions.to(dtype), targets.to(dtype)
        loss_BHQ = pinball_elements(q_hat, y, _levels_on(tuple(levels), dtype, q_hat.device))
        unit_BHQ = loss_BHQ if scale_BH is None else loss_BHQ / scale_BH.to(dtype)[..., None]
        self.count_H += defined.sum(0)
        self.rows_H += targets.shape[0]
        self.crossed_H += (q_hat.diff(dim=-1) < 0).any(-1).sum(0)
        self.loss_HQ += loss_BHQ.sum(0)
        self.unit_loss_HQ += unit_BHQ.sum(0)
        self.below_HQ += ((y[..., None] <= q_hat) & defined[..., None]).sum(0)
        columns = interval_columns(levels)
        for i, name in enumerate(INTERVALS):
            if name in columns:
                low, high = q_hat[..., columns[name][0]], q_hat[..., columns[name][1]]
                self.inside_HI[:, i] += ((y >= low) & (y <= high) & defined).sum(0)
                self.width_HI[:, i] += torch.where(defined, high - low, 0.0).sum(0)

    def packed(self) -> Tensor:
        return torch.cat([getattr(self, field.name).flatten() for field in fields(self)])

    def unpacked(self, vector: Tensor) -> "MetricSums":
        """The sums, of the shapes that these have, from all of them as one vector."""
        parts = vector.split([getattr(self, field.name).numel() for field in fields(self)])
        pairs = zip(fields(self), parts, strict=True)
        return MetricSums(**{field.name: part.view_as(getattr(self, field.name)) for field, part in pairs})


@lru_cache(maxsize=8)
def _levels_on(levels: tuple[float, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """The levels on the device, copied there once and not with every batch."""
    return torch.tensor(levels, dtype=dtype, device=device)


def metric_values(sums: MetricSums, levels: Sequence[float], horizons: Sequence[str]) -> dict[str, float]:
    """Name and divide the sums. Losses without a prefix are in return units; `val_loss` is of y/scale.

    Means over horizons weigh each defined target alike; NaN where nothing was defined.
    """
    s = MetricSums(**{name: sum_H.cpu() for name, sum_H in vars(sums).items()})
    total = s.count_H.sum()
    values = {
        "val_loss": float(s.unit_loss_HQ.mean(-1).sum() / total),
        "val_loss_returns": float(s.loss_HQ.mean(-1).sum() / total),
        "crossing_rate": float(s.crossed_H.sum() / s.rows_H.sum()),
    }
    values |= {f"loss_{name}": float(s.loss_HQ[i].mean() / s.count_H[i]) for i, name in enumerate(horizons)}
    for j, name in enumerate(map(level_name, levels)):
        values |= _shares(f"loss_{name}", s.loss_HQ[:, j], s, horizons)
        values |= _shares(f"coverage_{name}", s.below_HQ[:, j], s, horizons)
    columns = interval_columns(levels)
    for k, name in enumerate(INTERVALS):
        if name in columns:
            values |= _shares(f"picp_{name}", s.inside_HI[:, k], s, horizons)
            values |= _shares(f"interval_{name}_mean", s.width_HI[:, k], s, horizons)
    return values


def _shares(name: str, sum_H: Tensor, sums: MetricSums, horizons: Sequence[str]) -> dict[str, float]:
    """A sum over the defined targets as their mean, over all horizons together and of each."""
    each = (sum_H / sums.count_H).tolist()
    together = {name: float(sum_H.sum() / sums.count_H.sum())}
    return together | {f"{name}_{horizon}": share for horizon, share in zip(horizons, each, strict=True)}

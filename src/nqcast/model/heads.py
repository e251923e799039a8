"""Heads: corrections of a base forecast, never a forecast from nothing.

Shapes: B batch · H horizons · Q levels.
"""

import torch
from torch import Tensor, nn


class QuantileHead(nn.Module):
    """Correct the base quantiles of y/scale in log-scale first, then, within small bounds, in median and gaps.

    With base median m, base gaps g_j and band w (highest minus lowest base level):
        spread      s    = exp(L_s · tanh(d_s / L_s))            L_s = scale_limit
        median      m'   = m + L_m · w · tanh(d_m)               L_m = median_limit
        gap         g_j' = g_j · exp(L_g · tanh(d_j))            L_g = gap_limit
        quantiles        = s · (m' ± running sums of g')
    Gaps stay positive, so levels cannot cross. The last layer starts at zero, so
    an untrained head returns the base.
    """

    base_HQ: Tensor

    def __init__(
        self, width: int, n_horizons: int, levels: tuple[float, ...], limits: tuple[float, float, float]
    ) -> None:
        super().__init__()
        self.scale_limit, self.median_limit, self.gap_limit = limits
        self.median_index = levels.index(0.5)
        self.n_horizons, self.n_levels = n_horizons, len(levels)
        normal_Q = torch.special.ndtri(torch.tensor(levels, dtype=torch.float64)).float()
        self.register_buffer("base_HQ", normal_Q.repeat(n_horizons, 1))
        self.delta = nn.Linear(width, n_horizons * (len(levels) + 1))
        nn.init.zeros_(self.delta.weight)
        nn.init.zeros_(self.delta.bias)

    def forward(self, x_BC: Tensor, unit_quantiles: Tensor | None) -> tuple[Tensor, Tensor]:
        """Quantiles of y/scale (B, H, Q) and the log spread (B, H), float32.

        `unit_quantiles` (H, Q) or (B, H, Q) replaces the stored base.
        """
        base_BHQ = (self.base_HQ if unit_quantiles is None else unit_quantiles).float()
        if base_BHQ.dim() == 2:
            base_BHQ = base_BHQ[None]
        delta_BHK = self.delta(x_BC.float()).view(-1, self.n_horizons, self.n_levels + 1)
        log_scale_BH1, median_BH1, gaps_BHG = delta_BHK.split([1, 1, self.n_levels - 1], dim=-1)
        band_BH1 = base_BHQ[..., -1:] - base_BHQ[..., :1]
        middle = base_BHQ[..., self.median_index, None] + self.median_limit * band_BH1 * torch.tanh(median_BH1)
        gaps_BHG = base_BHQ.diff(dim=-1) * torch.exp(self.gap_limit * torch.tanh(gaps_BHG))
        below = gaps_BHG[..., : self.median_index].flip(-1).cumsum(-1).flip(-1)
        above = gaps_BHG[..., self.median_index :].cumsum(-1)
        log_spread_BH1 = self.scale_limit * torch.tanh(log_scale_BH1 / self.scale_limit)
        unit_BHQ = torch.exp(log_spread_BH1) * torch.cat([middle - below, middle, middle + above], dim=-1)
        return unit_BHQ, log_spread_BH1.squeeze(-1)

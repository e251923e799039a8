"""From a window of features to tokens: normalisation, patches and clock encodings.

Shapes: B batch · T bars · F variables · P patches · D width.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

CYCLES = {"day_of_week": 7.0, "day_of_month": 31.0, "day_of_year": 366.0}
CLIP = 8.0  # window standard deviations; a bar beyond says "very large" and no more


class Normalised(NamedTuple):
    """A window in units of the training set and of itself."""

    level_BTF: Tensor  # features in training-set units, pads 0; of the newest bars at least
    mean_BF: Tensor  # the window's mean, training-set units
    log_std_BF: Tensor  # log of the window's deviation, training-set units (nats)
    rows_BFT: Tensor | None = None  # standardised by the window's own mean and deviation, clipped, pads 0


class WindowNorm(nn.Module):
    """Reversible instance normalisation over the valid rows. Kim et al. (2022), "Reversible instance normalization".

    The window's mean and log deviation are returned, and the model feeds them back as context: a network that sees
    only the normalised window would have lost the level of volatility. The floor `eps` is relative to each variable's
    training deviation, so it never silences a variable of small size.
    """

    feature_mean_F: Tensor
    feature_std_F: Tensor

    def __init__(self, n_features: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("feature_mean_F", torch.zeros(n_features))
        self.register_buffer("feature_std_F", torch.ones(n_features))

    def forward(self, features_BTF: Tensor, valid_BT: Tensor | None, with_window: bool = True) -> Normalised:
        """Levels, the window's statistics and, where it is wanted, the normalised window."""
        level = self.level(features_BTF)
        if valid_BT is None:
            mean_B1F = level.mean(1, keepdim=True)
            centred = level - mean_B1F
            variance_B1F = centred.square().mean(1, keepdim=True)
        else:
            weight_BT1 = valid_BT[:, :, None].float()
            count_B11 = weight_BT1.sum(1, keepdim=True).clamp(min=1.0)
            # where, not a product: a pad may hold NaN
            level = torch.where(valid_BT[:, :, None], level, 0.0)
            mean_B1F = level.sum(1, keepdim=True) / count_B11
            centred = (level - mean_B1F) * weight_BT1
            variance_B1F = centred.square().sum(1, keepdim=True) / count_B11
        log_std_B1F = 0.5 * torch.log(variance_B1F + self.eps**2)
        # the direct path has no use for the window
        rows_BFT = (centred * torch.exp(-log_std_B1F)).clamp(-CLIP, CLIP).transpose(1, 2) if with_window else None
        return Normalised(level, mean_B1F[:, 0], log_std_B1F[:, 0], rows_BFT)

    def level(self, features_BTF: Tensor) -> Tensor:
        """Features in training-set units."""
        return (features_BTF.float() - self.feature_mean_F) / self.feature_std_F


class PatchEmbedding(nn.Module):
    """One linear map per variable from a patch of bars to a token: (B, F, T) -> (F, B, P, D).

    Variables come first in the result: the products are then one batched call and time attention needs no transpose.
    """

    def __init__(self, n_features: int, patch_length: int, width: int) -> None:
        super().__init__()
        self.patch_length = patch_length
        self.weight_FKD = nn.Parameter(torch.randn(n_features, patch_length, width) / math.sqrt(patch_length))
        self.bias_F1D = nn.Parameter(0.02 * torch.randn(n_features, 1, width))

    def forward(self, rows_BFT: Tensor) -> Tensor:
        b, f, t = rows_BFT.shape
        patches_FNK = rows_BFT.transpose(0, 1).reshape(f, -1, self.patch_length)
        tokens_FND = torch.baddbmm(self.bias_F1D, patches_FNK, self.weight_FKD)
        return tokens_FND.view(f, b, t // self.patch_length, -1)


class ClockEncoding(nn.Module):
    """Where a patch's last bar stands: time of day by harmonics, the calendar by Time2Vec.

    Time2Vec (Kazemi et al., 2019): one linear and several sine features of t, here of t in turns of its own cycle.
    """

    frequency_K: Tensor

    def __init__(
        self, width: int, day_harmonics: int, calendar_waves: int, calendar: tuple[str, ...], bars_per_day: int = 288
    ) -> None:
        super().__init__()
        self.cycles = {name: CYCLES[name] for name in calendar}
        turns = torch.arange(1, day_harmonics + 1, dtype=torch.float32)
        self.register_buffer("frequency_K", 2 * math.pi * turns / bars_per_day, persistent=False)
        waves = torch.arange(1, calendar_waves + 1, dtype=torch.float32)
        self.omega_CW = nn.Parameter((2 * math.pi * waves).repeat(len(calendar), 1))
        self.phase_CW = nn.Parameter(torch.zeros(len(calendar), calendar_waves))
        self.project = nn.Linear(2 * day_harmonics + len(calendar) * (calendar_waves + 1), width)

    def forward(self, clock_BP: dict[str, Tensor]) -> Tensor:
        """Encode integer clocks (`bar_in_day` and the three calendar counts) into (B, P, D)."""
        angle_BPK = clock_BP["bar_in_day"].float()[..., None] * self.frequency_K
        if not self.cycles:
            return self.project(torch.cat([angle_BPK.sin(), angle_BPK.cos()], dim=-1))
        turns_BPC = torch.stack([clock_BP[name].float() / cycle for name, cycle in self.cycles.items()], dim=-1)
        waves_BPCW = torch.sin(turns_BPC[..., None] * self.omega_CW + self.phase_CW)
        return self.project(torch.cat([angle_BPK.sin(), angle_BPK.cos(), turns_BPC, waves_BPCW.flatten(2)], dim=-1))


class RecentBars(nn.Module):
    """Direct path to the heads: means of the last few bars and the scale's own predictors through one small layer.

    The means are of training-set units, not of the normalised window: fast volatility and the leverage effect live in
    the last minutes, and pooled tokens blur them. The predictors reach further back than any window.
    """

    def __init__(self, n_features: int, spans: tuple[int, ...], n_volatility: int, width: int) -> None:
        super().__init__()
        self.spans, self.n_volatility = spans, n_volatility
        self.layer = nn.Sequential(
            nn.Linear(n_features * len(spans) + n_volatility, width), nn.GELU(approximate="tanh")
        )

    def forward(self, level_BTF: Tensor, valid_BT: Tensor | None, volatility_BK: Tensor | None) -> Tensor:
        means = []
        for span in self.spans:
            newest = level_BTF[:, -span:].clamp(-CLIP, CLIP)
            if valid_BT is None:
                means.append(newest.mean(1))
            else:
                count_B1 = valid_BT[:, -span:].sum(1, keepdim=True).clamp(min=1)
                means.append(newest.sum(1) / count_B1)
        if self.n_volatility:
            if volatility_BK is None:
                volatility_BK = level_BTF.new_zeros(level_BTF.shape[0], self.n_volatility)
            means.append(volatility_BK)
        return self.layer(torch.cat(means, dim=-1))

"""MIGT_TVDT: time attention per variable, then gated attention over variables, then correcting quantile heads.

Shapes: B batch · T bars · F variables · P patches · D width · H horizons · Q levels.
"""

from typing import TypedDict

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nqcast.model.blocks import AttentionPool, Norm, QuantileHead, TimeBlock, VariableBlock
from nqcast.model.config import ModelConfig
from nqcast.model.embedding import ClockEncoding, Normalised, PatchEmbedding, RecentBars, WindowNorm
from nqcast.spacing import Spacing


class Output(TypedDict):
    """What the network says of a batch of windows."""

    quantiles: Tensor  # (B, H, Q) float32 in return units, rising in Q
    log_spread: Tensor  # (B, H), by which they are wider than the base, in nats
    norm_stats: dict[str, Tensor]  # "mean" and "std" of the windows, each (B, F), in the features' units


class MIGT_TVDT(nn.Module):
    """Quantiles of future log returns from a window of bars.

    The forecast is unit quantiles × scale. The untrained model returns exactly its base quantiles × scale, so it
    starts as the volatility model whose scale and quantiles it is given.

    Args:
        config: sizes; None takes the laptop preset.
        seed: draws the weights from this seed and leaves torch's generators as they were; None draws from them.
    """

    def __init__(self, config: ModelConfig | None = None, seed: int | None = None) -> None:
        super().__init__()
        self.config = config or ModelConfig()
        if seed is None:
            self._build()
        else:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self._build()

    def _build(self) -> None:
        c = self.config
        self.norm = WindowNorm(c.n_features, c.norm_eps)
        if c.tokens:
            self._build_tokens()
        direct = (c.n_features, c.recent_bars, c.n_volatility or 0, c.recent_width)
        self.recent = RecentBars(*direct) if c.recent_width else None
        limits = (c.scale_limit, c.median_limit, c.gap_limit)
        summary_width = c.d_model if c.tokens else 0
        self.head = QuantileHead(summary_width + c.recent_width, c.n_horizons, c.quantiles, limits)
        with torch.no_grad():  # weights and gain both 0 would never learn
            self.head.delta.weight[:, :summary_width].normal_(std=c.d_model**-0.5)

    def _build_tokens(self) -> None:
        c = self.config
        block = (c.d_model, c.n_heads, c.d_ff, c.dropout, c.attention)
        self.patches = PatchEmbedding(c.n_features, c.patch_length, c.d_model)
        slots = Spacing(c.bar_minutes).slots
        self.clock = ClockEncoding(c.d_model, c.day_harmonics, c.calendar_waves, c.calendar, slots)
        self.age_PD = nn.Parameter(0.1 * torch.randn(c.n_patches, c.d_model))
        self.time_blocks = nn.ModuleList(TimeBlock(*block) for _ in range(c.n_time_blocks))
        self.time_norm = Norm(c.d_model)
        self.time_pool = AttentionPool(c.d_model, c.n_heads, c.n_patches, recent_first=True)
        self.level_F2D = nn.Parameter(0.5 * torch.randn(c.n_features, 2, c.d_model)) if c.window_statistics else None
        self.variable_blocks = nn.ModuleList(VariableBlock(*block, gated=c.gate) for _ in range(c.n_variable_blocks))
        self.variable_norm = Norm(c.d_model)
        self.variable_pool = AttentionPool(c.d_model, c.n_heads, c.n_features, recent_first=False)
        # From 0 (Bachlechner et al., 2020, ReZero): what the tokens say enters as it proves its worth. Untrained
        # attention over 24 variables is noise, and on a year of bars it costs more than it can give.
        self.token_gain = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        features_BTF: Tensor,
        attention_mask_BT: Tensor | None = None,
        temporal_info: dict[str, Tensor] | None = None,
        scale_BH: Tensor | None = None,
        unit_quantiles: Tensor | None = None,
        volatility_BK: Tensor | None = None,
    ) -> Output:
        """Forecast at the last bar of each window.

        Args:
            features_BTF: the 24 causal features, in their own units.
            attention_mask_BT: True where a bar is real. Pads precede the data. None: all bars are real.
            temporal_info: integer clocks `bar_in_day`, `day_of_week`, `day_of_month`, `day_of_year`, each (B, T).
                None leaves the clock out.
            scale_BH: positive scale in return units; None means 1.
            unit_quantiles: quantiles of y/scale, (H, Q) or (B, H, Q), instead of the stored base.
            volatility_BK: the scale's own predictors in training deviations, K = n_volatility. None: at their mean.

        Raises:
            ValueError: when the window's shape is not (B, context, n_features).
        """
        self._check_shape(features_BTF)
        with torch.autocast(features_BTF.device.type, enabled=False):
            window = self.norm(features_BTF, attention_mask_BT, bool(self.config.tokens))
        parts = []
        if self.config.tokens:
            parts.append(self.token_gain * self._summary(window, attention_mask_BT, temporal_info).float())
        with torch.autocast(features_BTF.device.type, enabled=False):
            if self.recent is not None:
                parts.append(self.recent(window.level_BTF, attention_mask_BT, volatility_BK))
            unit_BHQ, log_spread_BH = self.head(torch.cat(parts, dim=-1), unit_quantiles)
            quantiles_BHQ = unit_BHQ if scale_BH is None else unit_BHQ * scale_BH.float()[:, :, None]
        return {"quantiles": quantiles_BHQ, "log_spread": log_spread_BH, "norm_stats": self._norm_stats(window)}

    def _summary(self, window: Normalised, valid_BT: Tensor | None, clock_BT: dict[str, Tensor] | None) -> Tensor:
        """Tokens through time, then through variables, to one vector per window, (B, D)."""
        place_BPD = self.age_PD.expand(window.mean_BF.shape[0], -1, -1)
        if clock_BT is not None:
            place_BPD = place_BPD + self.clock({name: values[:, self._last] for name, values in clock_BT.items()})
        assert window.rows_BFT is not None
        tokens_BFD = self.through_time(window.rows_BFT, place_BPD, valid_BT)
        if self.level_F2D is not None:
            level_BF2 = torch.stack([window.mean_BF, window.log_std_BF], dim=-1).clamp(-8.0, 8.0)
            tokens_BFD = tokens_BFD + _narrow(torch.einsum("bfk,fkd->bfd", level_BF2, self.level_F2D))
        return self.through_variables(tokens_BFD)

    def through_time(self, rows_BFT: Tensor, place_BPD: Tensor, valid_BT: Tensor | None) -> Tensor:
        """One vector per window and variable, (B, F, D), from its patches."""
        c, b = self.config, rows_BFT.shape[0]
        tokens_NPD = _narrow(self.patches(rows_BFT) + place_BPD).view(-1, c.n_patches, c.d_model)
        # a patch counts when its last bar is real; pads precede the data, so no real bar is lost
        valid_NP = None if valid_BT is None else valid_BT[:, self._last].repeat(c.n_features, 1)
        for block in self.time_blocks:
            tokens_NPD = self._through(block, tokens_NPD, valid_NP)
        pooled_ND = self.time_pool(self.time_norm(tokens_NPD), valid_NP)
        return pooled_ND.view(c.n_features, b, c.d_model).transpose(0, 1)

    def through_variables(self, tokens_BFD: Tensor) -> Tensor:
        """One vector per window, (B, D), from those of its variables."""
        for block in self.variable_blocks:
            tokens_BFD = self._through(block, tokens_BFD)
        return self.variable_pool(self.variable_norm(tokens_BFD))

    @property
    def _last(self) -> slice:
        """The last bar of each patch."""
        return slice(self.config.patch_length - 1, None, self.config.patch_length)

    def _through(self, block: nn.Module, *inputs: Tensor | None) -> Tensor:
        """A block's output; where activations are checkpointed, training keeps its inputs alone."""
        if not (self.config.activation_checkpointing and self.training and torch.is_grad_enabled()):
            return block(*inputs)
        return checkpoint(block, *inputs, use_reentrant=False)

    def roles(self) -> dict[str, list[nn.Parameter]]:
        """Parameters that are no matrices for all their dimensions, and gains, for whoever builds an optimiser."""
        if not self.config.tokens:
            return {}
        tables = [self.patches.bias_F1D, self.age_PD, self.clock.omega_CW, self.clock.phase_CW]
        tables += [self.time_pool.place_LA, self.variable_pool.place_LA]
        return {"tables": tables, "gains": [self.token_gain]}

    def gauges(self) -> dict[str, float]:
        """Single numbers to watch over the epochs: how much of the tokens' summary enters."""
        return {"token_gain": self.token_gain.item()} if self.config.tokens else {}

    def regions(self) -> list[nn.Module]:
        """Parts that `torch.compile` takes one by one; equal blocks share what is compiled."""
        return [*self.time_blocks, *self.variable_blocks] if self.config.tokens else []

    def _norm_stats(self, window: Normalised) -> dict[str, Tensor]:
        mean_F, std_F = self.norm.feature_mean_F, self.norm.feature_std_F
        return {"mean": window.mean_BF * std_F + mean_F, "std": window.log_std_BF.exp() * std_F}

    def _check_shape(self, features_BTF: Tensor) -> None:
        expected = (self.config.context, self.config.n_features)
        if features_BTF.dim() != 3 or tuple(features_BTF.shape[1:]) != expected:
            raise ValueError(
                f"expected windows of shape (batch, {expected[0]}, {expected[1]}), found {tuple(features_BTF.shape)}; "
                "set model.context and model.n_features to the data's"
            )

    @torch.no_grad()
    def set_base(self, unit_quantiles_HQ: ArrayLike, feature_mean_F: ArrayLike, feature_std_F: ArrayLike) -> None:
        """Store what the training anchors say: base quantiles of y/scale (H, Q), features' means and deviations (F).

        A deviation of 0 (a constant feature) becomes 1. Raises ValueError on a wrong shape or on falling quantiles.
        """
        base_HQ = _checked(unit_quantiles_HQ, self.head.base_HQ, "unit_quantiles_HQ")
        if bool((base_HQ.diff(dim=-1) < 0).any()):
            raise ValueError("expected base quantiles that rise with the level, found falling ones; sort them by level")
        mean_F = _checked(feature_mean_F, self.norm.feature_mean_F, "feature_mean_F")
        std_F = _checked(feature_std_F, self.norm.feature_std_F, "feature_std_F")
        self.head.base_HQ.copy_(base_HQ)
        self.norm.feature_mean_F.copy_(mean_F)
        self.norm.feature_std_F.copy_(torch.where(std_F > 0, std_F, torch.ones_like(std_F)))

    def summary(self) -> str:
        """Parameters by part, as a table in text."""
        counts = {name: sum(p.numel() for p in part.parameters()) for name, part in self.named_children()}
        counts |= {name: parameter.numel() for name, parameter in self.named_parameters(recurse=False)}
        rows = [f"{name:<18}{count:>12,}" for name, count in counts.items() if count]
        return "\n".join([f"MIGT_TVDT {self.config.size}", *rows, f"{'total':<18}{sum(counts.values()):>12,}"])


def _narrow(tokens: Tensor) -> Tensor:
    """Tokens in autocast's arithmetic, in which the residual stream then stays: half of its memory and traffic."""
    device = tokens.device.type
    return tokens.to(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else tokens


def _checked(values: ArrayLike, like: Tensor, name: str) -> Tensor:
    array = torch.as_tensor(np.asarray(values), dtype=torch.float32, device=like.device)
    if array.shape != like.shape or not bool(torch.isfinite(array).all()):
        raise ValueError(f"expected {name} finite, of shape {tuple(like.shape)}, found {tuple(array.shape)} {array}")
    return array

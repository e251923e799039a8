"""Attention, feed-forward and gated blocks, pooling with one learned query, and the head.

Shapes: N sequences · L tokens · D width · A heads.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TWICE_ROOT = 2.0 * math.sqrt(2.0 / math.pi)
MASKED_SCORE = -1e9  # finite, so that a sequence without any valid token gives numbers instead of NaN


class Norm(nn.LayerNorm):
    """Layer norm in the arithmetic of its input: statistics in float32 inside, values kept for the backward pass as
    they came. Autocast would widen half-precision tokens to float32 and keep a wide copy of each.
    """

    def forward(self, x_NLD: Tensor) -> Tensor:
        if x_NLD.dtype == self.weight.dtype:
            return super().forward(x_NLD)
        with torch.autocast(x_NLD.device.type, enabled=False):
            weight, bias = self.weight.to(x_NLD.dtype), self.bias.to(x_NLD.dtype)
            return F.layer_norm(x_NLD, self.normalized_shape, weight, bias, self.eps)


class ResidualDropout(nn.Module):
    """Dropout of whole channels of a sequence: one mask per (sequence, channel), shared by its tokens.

    Gal & Ghahramani (2016), "A theoretically grounded application of dropout in recurrent networks". The mask is
    L times smaller than an element-wise one, which on a CPU saves most of dropout's cost.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, x_NLD: Tensor) -> Tensor:
        mask_N1D = self.mask(x_NLD, x_NLD.shape[0])
        return x_NLD if mask_N1D is None else x_NLD * mask_N1D

    def mask(self, like: Tensor, n: int) -> Tensor | None:
        """A mask (N, 1, D) for sequences of the kind and width of `like`; None where nothing is dropped."""
        if not self.training or self.probability == 0.0:
            return None
        return F.dropout(like.new_ones(n, 1, like.shape[-1]), self.probability)


class SelfAttention(nn.Module):
    """Multi-head self-attention, q, k and v in one projection. Vaswani et al. (2017)."""

    def __init__(self, width: int, n_heads: int, kernel: str) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.kernel = kernel
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        """Mix the tokens of each sequence; tokens whose `valid_NL` is False are never attended to."""
        n, length, width = x_NLD.shape
        q, k, v = self.qkv(x_NLD).view(n, length, 3, self.n_heads, width // self.n_heads).permute(2, 0, 3, 1, 4)
        use_bmm = self.kernel == "bmm" or (self.kernel == "auto" and x_NLD.device.type == "cpu")
        mixed_NALd = _explicit_attention(q, k, v, valid_NL) if use_bmm else _fused_attention(q, k, v, valid_NL)
        return self.out(mixed_NALd.transpose(1, 2).reshape(n, length, width))


def _explicit_attention(q: Tensor, k: Tensor, v: Tensor, valid_NL: Tensor | None) -> Tensor:
    """Plain batched products: on a CPU faster than the fused kernel for the short sequences met here."""
    scores_NALL = (q * (1.0 / math.sqrt(q.shape[-1]))) @ k.transpose(-2, -1)
    if valid_NL is not None:
        scores_NALL = scores_NALL.masked_fill(~valid_NL[:, None, None, :], MASKED_SCORE)
    return scores_NALL.softmax(-1) @ v


def _fused_attention(q: Tensor, k: Tensor, v: Tensor, valid_NL: Tensor | None) -> Tensor:
    """torch's fused kernel; in its boolean mask True means "takes part"."""
    mask = None if valid_NL is None else valid_NL[:, None, None, :]
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class TanhGelu(nn.GELU):
    """GELU by its tanh formula, which the compiler is given as a sigmoid: (1 + tanh u) / 2 = sigmoid(2u).

    Its vectorised tanh takes three times as long as its exponential; eager mode has a fused kernel of its own.
    """

    def __init__(self) -> None:
        super().__init__(approximate="tanh")

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling() or self.approximate != "tanh":
            return super().forward(x)
        wide = x.float()
        return (wide * torch.sigmoid(TWICE_ROOT * wide * (1.0 + 0.044715 * wide * wide))).to(x.dtype)


class FeedForward(nn.Sequential):
    """Two linear layers around a tanh GELU (cheaper than the exact one on a CPU, equal in effect)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(nn.Linear(width, hidden), TanhGelu(), nn.Linear(hidden, width))


class TimeBlock(nn.Module):
    """Pre-norm transformer block over the tokens of one variable."""

    def __init__(self, width: int, n_heads: int, hidden: int, dropout: float, kernel: str) -> None:
        super().__init__()
        self.attention_norm = Norm(width)
        self.attention = SelfAttention(width, n_heads, kernel)
        self.feed_norm = Norm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.dropout = ResidualDropout(dropout)

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        x_NLD = x_NLD + self.dropout(self.attention(self.attention_norm(x_NLD), valid_NL))
        return x_NLD + self.dropout(self.feed_forward(self.feed_norm(x_NLD)))


class VariableBlock(nn.Module):
    """Block over variables whose attention passes the lite gate unit x + sigmoid(W x) · attention(norm x)."""

    def __init__(
        self, width: int, n_heads: int, hidden: int, dropout: float, kernel: str, *, gated: bool = True
    ) -> None:
        super().__init__()
        self.attention_norm = Norm(width)
        self.attention = SelfAttention(width, n_heads, kernel)
        self.gate = nn.Linear(width, width) if gated else None
        self.feed_norm = Norm(width)
        self.feed_forward = FeedForward(width, hidden)
        self.dropout = ResidualDropout(dropout)

    def forward(self, x_NLD: Tensor) -> Tensor:
        mixed_NLD = self.attention(self.attention_norm(x_NLD))
        if self.gate is not None:
            mixed_NLD = torch.sigmoid(self.gate(x_NLD)) * mixed_NLD
        x_NLD = x_NLD + self.dropout(mixed_NLD)
        return x_NLD + self.dropout(self.feed_forward(self.feed_norm(x_NLD)))


class AttentionPool(nn.Module):
    """One learned query attends to all tokens: (N, L, D) -> (N, D).

    With a single query the key projection folds exactly into one score vector per head, and the value projection
    into a matrix applied after pooling, so no (N, L, D) projection is ever formed. `place_LA` is a learned score of
    the token's place; half of the heads start out sharp on the newest token when `recent_first` is set.
    """

    def __init__(self, width: int, n_heads: int, length: int, recent_first: bool) -> None:
        super().__init__()
        self.score_DA = nn.Parameter(torch.randn(width, n_heads) / math.sqrt(width))
        place_LA = torch.zeros(length, n_heads)
        if recent_first:
            age_L = torch.arange(length - 1, -1, -1, dtype=torch.float32)
            place_LA[:, n_heads // 2 :] = -age_L[:, None].clamp(max=8.0)
        self.place_LA = nn.Parameter(place_LA)
        self.value = nn.Linear(n_heads * width, width)

    def forward(self, x_NLD: Tensor, valid_NL: Tensor | None = None) -> Tensor:
        scores_NLA = x_NLD @ self.score_DA + self.place_LA
        if valid_NL is not None:
            scores_NLA = scores_NLA.masked_fill(~valid_NL[:, :, None], MASKED_SCORE)
        pooled_NAD = scores_NLA.softmax(1).transpose(1, 2) @ x_NLD
        return self.value(pooled_NAD.flatten(1))


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

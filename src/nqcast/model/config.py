"""Sizes of MIGT_TVDT. A preset fills the fields that the user leaves unset."""

from itertools import pairwise
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from nqcast.constants import BAR_MINUTES, CONTEXT, FEATURES, HORIZONS, LEVELS
from nqcast.fields import Configuration, changed
from nqcast.spacing import BarMinutes, Spacing

PRESETS: dict[str, dict[str, Any]] = {
    "laptop": {
        "patch_length": 12, "d_model": 32, "n_heads": 2, "n_time_blocks": 1, "n_variable_blocks": 1,
        "d_ff": 64, "dropout": 0.1, "recent_width": 32, "calendar": ("day_of_week",),
    },
    "full": {
        "patch_length": 1, "d_model": 256, "n_heads": 8, "n_time_blocks": 4, "n_variable_blocks": 2,
        "d_ff": 1024, "dropout": 0.1, "recent_width": 64, "calendar": ("day_of_week", "day_of_month", "day_of_year"),
    },
    "test": {
        "patch_length": 24, "d_model": 16, "n_heads": 2, "n_time_blocks": 1, "n_variable_blocks": 1,
        "d_ff": 32, "dropout": 0.1, "recent_width": 16, "calendar": ("day_of_week",),
    },
}  # fmt: skip
_LAPTOP = PRESETS["laptop"]


class ModelConfig(Configuration):
    """Architecture of `MIGT_TVDT`; `size` chooses a preset and every field of it can be overridden."""

    # Fields that change how the forecast is computed, not what it is: a run may go on with others.
    without_effect: ClassVar[frozenset[str]] = frozenset({"activation_checkpointing", "kernels"})
    presets: ClassVar[dict[str, dict[str, dict[str, Any]]]] = {"size": PRESETS}

    size: Literal["laptop", "full", "test"] = Field(default="laptop", description="Preset that fills the unset fields.")
    n_features: int = Field(default=len(FEATURES), ge=1, description="Variables per bar (count).")
    bar_minutes: BarMinutes = Field(
        default=BAR_MINUTES,
        exclude_if=lambda minutes: minutes == BAR_MINUTES,
        description="Spacing of the bars that the sizes count (minutes); the run sets it and counts anew.",
    )
    context: int = Field(default=CONTEXT, ge=1, description="Window length (bars).")
    quantiles: tuple[float, ...] = Field(
        default=LEVELS,
        min_length=3,
        description="Forecast levels, rising, with 0.5.",
    )
    n_horizons: int = Field(default=len(HORIZONS), ge=1, description="Forecast horizons (count).")
    patch_length: int = Field(
        default=_LAPTOP["patch_length"],
        ge=1,
        description="Bars that one token holds; divides `context`; 1 = every bar.",
    )
    d_model: int = Field(
        default=_LAPTOP["d_model"], ge=2, description="Token width (channels); a multiple of `n_heads`."
    )
    n_heads: int = Field(default=_LAPTOP["n_heads"], ge=1, description="Attention heads (count).")
    n_time_blocks: int = Field(
        default=_LAPTOP["n_time_blocks"], ge=0, description="Blocks of attention over time, per variable (count)."
    )
    n_variable_blocks: int = Field(
        default=_LAPTOP["n_variable_blocks"], ge=0, description="Gated blocks of attention over variables (count)."
    )
    d_ff: int = Field(default=_LAPTOP["d_ff"], ge=1, description="Hidden width of the feed-forward layers (channels).")
    dropout: float = Field(
        default=_LAPTOP["dropout"], ge=0.0, lt=1.0, description="Dropout on residual branches (probability)."
    )
    tokens: bool | Literal["auto"] = Field(
        default=True,
        description="Attention over the window's tokens; without it the direct path alone corrects the base, some "
        "twenty times as fast; auto = the direct path, as wide as the number of train anchors allows.",
    )
    recent_width: int = Field(
        default=_LAPTOP["recent_width"],
        ge=0,
        description="Width of the direct path from the newest bars; 0 leaves it out.",
    )
    recent_bars: tuple[int, ...] = Field(
        default=(1, 3, 12),
        min_length=1,
        description="Spans whose means feed the direct path (bars before the anchor, each).",
    )
    n_volatility: int | None = Field(
        default=None,
        ge=0,
        description="Predictors of the scale that the direct path sees (count); none = all that the scale has, "
        "0 = leaves them out.",
    )
    gate: bool = Field(
        default=True, description="Variable attention passes the lite gate unit; without it, it is added as it is."
    )
    window_statistics: bool = Field(
        default=True,
        description="The window's mean and log deviation, which its normalisation took away, come back as context.",
    )
    day_harmonics: int = Field(
        default=8, ge=1, description="Sine and cosine pairs that encode the time of day (count)."
    )
    calendar: tuple[Literal["day_of_week", "day_of_month", "day_of_year"], ...] = Field(
        default=_LAPTOP["calendar"],
        description="Calendar cycles that the clock encodes; within a few years of bars the longer two name a period.",
    )
    calendar_waves: int = Field(default=4, ge=1, description="Time2Vec waves per calendar cycle (count).")
    norm_eps: float = Field(
        default=1e-3,
        gt=0,
        description="Floor of a window's standard deviation (share of the variable's training deviation).",
    )
    scale_limit: float = Field(default=3.0, gt=0, description="Bound of the log-scale correction (nats, either sign).")
    gap_limit: float = Field(
        default=0.1, ge=0, description="Bound of the log correction of each gap between levels (nats)."
    )
    median_limit: float = Field(
        default=0.02,
        ge=0,
        description="Bound of the median's shift (share of the base band from lowest to highest level).",
    )
    attention: Literal["auto", "bmm", "sdpa"] = Field(
        default="auto",
        description="Attention kernel: explicit products, fused, or by device (bmm on CPU, sdpa elsewhere).",
    )
    kernels: Literal["auto", "fused", "plain"] = Field(
        default="auto",
        description="On a CPU: fused = normalisation and attention in few compiled passes (needs g++), "
        "plain = torch's operations, auto = fused where a compiler is there and the sizes allow it.",
    )
    activation_checkpointing: bool = Field(
        default=False,
        description="Keep only the input of each block in training and compute the rest again in the backward pass: "
        "same gradients, less memory, about a third more time.",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, values: object) -> object:
        if not isinstance(values, dict):
            return values
        preset = PRESETS.get(values.get("size", "laptop"), {})
        return {**preset, **values}

    @model_validator(mode="after")
    def _check_sizes(self) -> "ModelConfig":
        if self.context % self.patch_length:
            raise ValueError(
                f"expected patch_length to divide context, found {self.patch_length} and {self.context}; "
                "choose a divisor such as 1, 6, 12 or 24"
            )
        if self.d_model % self.n_heads:
            raise ValueError(
                f"expected d_model to be a multiple of n_heads, found {self.d_model} and {self.n_heads}; change one"
            )
        if self.size == "full" and self.tokens is not True:
            found = str(self.tokens).lower()
            raise ValueError(
                f"expected attention in a model of full size, found tokens={found}, which leaves the small direct path "
                "alone: set model.tokens=true, take --env contract, or another model.size"
            )
        if not self.tokens and not self.recent_width:
            raise ValueError("expected a path to the heads, found tokens=false and recent_width=0; set one of them")
        levels = self.quantiles
        rising = all(a < b for a, b in pairwise(levels))
        if not rising or levels[0] <= 0 or levels[-1] >= 1 or 0.5 not in levels:
            raise ValueError(f"expected rising levels between 0 and 1 with 0.5 among them, found {levels}; sort them")
        if min(self.recent_bars) < 1 or max(self.recent_bars) > self.context:
            raise ValueError(
                f"expected recent_bars between 1 and {self.context}, found {self.recent_bars}; shorten them"
            )
        return self

    def at(self, spacing: Spacing) -> Self:
        """The same network for bars of this spacing: its window, a token and what is newest last as long as before."""
        if self.bar_minutes == spacing.minutes:
            return self
        lengths = {name: spacing.rows(getattr(self, name)) for name in ("context", "patch_length")}
        newest = tuple(dict.fromkeys(map(spacing.rows, self.recent_bars)))
        return changed(self, {"bar_minutes": spacing.minutes, "recent_bars": newest, **lengths})

    @property
    def n_patches(self) -> int:
        """Tokens per variable."""
        return self.context // self.patch_length

"""What the simulated NQ market is made of: every constant of its law, with its unit."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import Field

from nqcast.constants import SIMULATED
from nqcast.fields import Configuration


class SimulationConfig(Configuration):
    """A simulated market of 1-minute NQ bars; two equal configurations give bit-equal bars.

    The defaults are calibrated to real NQ bars of 2015 and 2016 (docs/simulated_market.md).
    """

    # What is drawn, and how much of it.
    seed: int = Field(default=2016, ge=0, description="Seed of every random draw (integer).")
    start: date = Field(
        default=date(2016, 1, 4), ge=date(1990, 1, 2), description="First trading date that may be drawn (date)."
    )
    sessions: int = Field(default=1030, ge=1, le=20_000, description="Trading sessions drawn (count).")

    # Prices.
    initial_price: float = Field(default=4500.0, gt=0, description="Price before the first session (index points).")
    tick: float = Field(
        default=0.25, gt=0, description="Smallest price step; every price is a multiple (index points)."
    )

    # The law of 1-minute returns.
    session_volatility: float = Field(
        default=0.0113, gt=0, lt=0.2, description="Long-run standard deviation of a session's log return (fraction)."
    )
    diurnal_strength: float = Field(
        default=1.2,
        ge=0,
        le=2,
        description="Power of the time-of-day profile of volatility; 0 is a flat day (number).",
    )
    degrees_of_freedom: float = Field(
        default=3.5, gt=2, le=1e6, description="Degrees of freedom of the Student t innovations (number)."
    )
    slow_half_life: float = Field(default=9000.0, gt=0, description="Half-life of the slow component (traded minutes).")
    slow_deviation: float = Field(
        default=0.8, ge=0, le=2, description="Long-run standard deviation of the slow log variance (number)."
    )
    fast_half_life: float = Field(default=22.0, gt=0, description="Half-life of the fast component (traded minutes).")
    fast_deviation: float = Field(
        default=0.1, ge=0, le=2, description="Its long-run standard deviation from the size of returns alone (number)."
    )
    trend_half_life: float = Field(
        default=30.0,
        gt=0,
        description="Half-life of the trend of signed returns that moves the fast one (traded minutes).",
    )
    leverage_deviation: float = Field(
        default=1.2, ge=0, le=2, description="Its long-run standard deviation from the sign of returns alone (number)."
    )
    variance_floor_ticks: float = Field(
        default=0.75, ge=0.5, le=5, description="Smallest standard deviation of a 1-minute move (ticks)."
    )
    gap_volatility: float = Field(
        default=0.0018, ge=0, lt=0.2, description="Standard deviation of the log gap between two sessions (fraction)."
    )
    missing_strength: float = Field(
        default=1.0, ge=0, le=3, description="Multiplies the chance of a minute without a trade; 0 is none (number)."
    )

    # Contracts.
    roll: Literal["volume", "session_end", "mid_session"] = Field(
        default="volume",
        description="Why the front contract changes: volume migrates, or old bars end at or within a session (rule).",
    )
    overlap_sessions: int = Field(
        default=12, ge=10, le=40, description="Sessions a contract is quoted before it becomes the front (count)."
    )
    carry_mean: float = Field(
        default=-0.0016, gt=-0.05, lt=0.05, description="Mean of the log ratio of next to old contract (fraction)."
    )
    carry_deviation: float = Field(
        default=0.0004, ge=0, lt=0.02, description="Standard deviation of that log ratio over contracts (fraction)."
    )
    spread_noise_ticks: float = Field(
        default=1.2,
        ge=0,
        le=20,
        description="Standard deviation of the other contract's quote around its fair price (ticks).",
    )

    # Bars.
    range_noise: float = Field(
        default=1.0,
        ge=0,
        le=2,
        description="Standard deviation of the log variance within a minute around its move's own (number).",
    )
    mean_volume: float = Field(default=190.0, gt=0, description="Mean volume of a traded minute (contracts).")
    stray_bars_per_week: float = Field(
        default=0.8, ge=0, le=4, description="Mean number of weekend bars that belong to no session (bars per week)."
    )

    @property
    def source(self) -> str:
        """Name of the bars: the seed, and what else they are drawn by; how many are drawn changes none of them."""
        fields = self.model_dump(mode="json", exclude_defaults=True, exclude={"seed", "sessions"})
        return f"{SIMULATED} ({', '.join(f'{name} {value}' for name, value in {'seed': self.seed, **fields}.items())})"

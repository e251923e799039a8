"""Parameters of the evaluation; imports neither torch nor matplotlib."""

from typing import Literal

from pydantic import Field, field_validator

from nqcast.fields import Configuration, did_you_mean

QUICK_BASELINES = ("constants", "time_of_day", "time_of_day_ewma", "log_har", "seasonal_har")
FULL_BASELINES = (*QUICK_BASELINES, "garch_fhs", "lightgbm")
FAIR_BASELINES = (
    *("constants", "rolling_constants", "seasonal_har", "seasonal_har_by_slot", "seasonal_har_told"),
    *("seasonal_har_realized", "linear", "boosted_scale"),
)
REFERENCES = ("constants", "seasonal_har")
"""Against these skill is stated wherever no profile is asked for: while training, in ablations, in monitoring."""
REAL_BASELINES = tuple(dict.fromkeys((*QUICK_BASELINES, *FAIR_BASELINES)))
PROFILES = {"quick": QUICK_BASELINES, "full": FULL_BASELINES, "fair": FAIR_BASELINES, "real": REAL_BASELINES}

BASELINES = {
    "constants": "base.Constants",
    "time_of_day": "volatility.TimeOfDay",
    "time_of_day_ewma": "volatility.TimeOfDayEwma",
    "log_har": "volatility.LogHar",
    "seasonal_har": "volatility.SeasonalHar",
    "seasonal_har_by_slot": "volatility.SeasonalHarBySlot",
    "rolling_constants": "informed.RollingConstants",
    "seasonal_har_told": "informed.SeasonalHarTold",
    "seasonal_har_realized": "informed.SeasonalHarRealized",
    "linear": "informed.LinearCorrection",
    "boosted_scale": "informed.BoostedScale",
    "garch_fhs": "volatility.GarchFhs",
    "lightgbm": "informed.Lightgbm",
    "fracast": "volatility.Fracast",
}
"""Every baseline by its name: module and class in `nqcast.evaluation.baselines`. Adding one is adding a line."""


class EvaluateConfig(Configuration):
    """How forecasts are made, scored and compared on the test split."""

    baselines: Literal["quick", "full", "fair", "real"] | tuple[str, ...] = Field(
        default="quick",
        description="Which baselines to fit: quick (five, seconds), full (also GARCH and LightGBM), fair (with "
        "the network's own inputs), real (quick and fair), or their names; fracast, a foundation model, is fitted by "
        "its name alone. `real` goes without what needs a library that is not installed.",
    )
    batch_size: int = Field(default=256, ge=1, le=65536, description="Anchors per forward pass of the model.")
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="auto", description="Where the model runs; auto takes cuda, then mps, then cpu."
    )
    bootstrap_replications: int = Field(
        default=1000, ge=100, le=100_000, description="Resamples of the stationary bootstrap over sessions."
    )
    mean_block: float = Field(
        default=5.0, ge=1.0, le=250.0, description="Mean length of a bootstrap block, in sessions."
    )
    confidence: float = Field(
        default=0.95, gt=0.5, lt=1.0, description="Probability of every interval that is reported."
    )
    newey_west_lag: int = Field(
        default=5, ge=0, le=100, description="Newey-West lag of the Diebold-Mariano test on session sums, in sessions."
    )
    conformal: Literal["symmetric", "by_level"] = Field(
        default="symmetric",
        description="Offline calibration: one offset for a pair of levels, or one for every level, which also learns "
        "the drift of the validation period.",
    )
    online_rate: float = Field(
        default=0.015,
        gt=0,
        lt=1,
        description="Step of the online calibration per whole horizon, in scales; chosen on validation.",
    )
    online_by_part: bool = Field(
        default=False, description="The online calibration has offsets of its own for each part of the session."
    )
    phase_lag: int = Field(
        default=4, ge=1, le=20, description="Lagged hits in the dynamic-quantile test, in steps of a horizon."
    )
    truth_anchors: int = Field(
        default=1000,
        ge=0,
        description="Test anchors at which a simulated market is asked for its true quantiles; 0: none.",
    )
    seed: int = Field(default=0, ge=0, description="Seed of every resampling and of every randomised baseline.")
    explain_anchors: int = Field(
        default=256,
        ge=0,
        le=100_000,
        description="Validation anchors at which the network is looked into (permutation importance, gates, "
        "attention); each costs 25 forecasts; 0: not done.",
    )
    fan_session: str | None = Field(
        default=None,
        description="Trading date (YYYY-MM-DD) of the fan chart; none takes the one of median realised variance.",
    )
    fan_horizon: str | None = Field(
        default=None, description="Horizon whose fan is drawn through the day; none takes the middle one."
    )

    @field_validator("baselines", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        """A profile, names in a list, or names joined by + (--params parts its items at commas)."""
        if isinstance(value, str) and value not in PROFILES:
            value = tuple(value.split("+"))
        if not isinstance(value, list | tuple):
            return value
        for name in value:
            if name not in BASELINES:
                cure = did_you_mean(str(name), [*BASELINES, *PROFILES])
                raise ValueError(f"expected {', '.join(PROFILES)} or names of baselines, found {name!r}: {cure}")
        if "constants" not in value:
            raise ValueError(
                f"expected 'constants' among the baselines, since skill is measured against it, found {list(value)}: "
                "add it"
            )
        return tuple(value)

    @property
    def baseline_names(self) -> tuple[str, ...]:
        """The baselines to fit, in the order of the table."""
        return PROFILES[self.baselines] if isinstance(self.baselines, str) else self.baselines


class ScoreFileConfig(Configuration):
    """What the quantiles in a file of forecasts are."""

    values: Literal["log_return", "price"] = Field(
        default="log_return",
        description="Log returns over the horizon, or prices of the contract as it traded (not adjusted).",
    )

"""Parameters of a forecast from the newest bars; imports neither torch nor matplotlib."""

import datetime as dt
from typing import Literal

from pydantic import AwareDatetime, Field

from nqcast.constants import WARMUP_BARS
from nqcast.fields import Configuration


class ForecastConfig(Configuration):
    """When a forecast is issued, and which bars are too old or too full of holes to issue one."""

    as_of: AwareDatetime | None = Field(
        default=None,
        description="Time of the forecast, with a zone (2016-11-09T14:30:00Z): only bars that had ended then are read. "
        "None: the end of the newest bar.",
    )
    max_age_minutes: float | None = Field(
        default=None,
        gt=0,
        description="Oldest newest bar that is taken, from its end to as_of, or to the clock where as_of is not given; "
        "minutes. None: any age without as_of, which suits a file of history, and max_gap_minutes with it.",
    )
    max_gap_minutes: int = Field(
        default=60,
        ge=5,
        description="Longest stretch of open market without a trade inside the model's window (minutes).",
    )
    min_bars: int = Field(
        default=WARMUP_BARS,
        ge=1,
        description="Fewest bars (of five minutes) up to a forecast; the scale's slowest average fills in 20 sessions.",
    )
    history_bars: int = Field(
        default=96, ge=2, le=2000, description="Bars (of five minutes) of price shown before the fan in the charts."
    )
    paths: int = Field(
        default=0,
        ge=0,
        le=100_000,
        description="Joint paths over the horizons whose margins are the quantiles (count); 0 draws none.",
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field(
        default="cpu", description="Where the model runs; one window is quickest on the CPU."
    )

    def now(self) -> dt.datetime:
        """The time against which the age of the bars counts."""
        return self.as_of or dt.datetime.now(dt.UTC)

"""Parameters of a forecast, and what a checkpoint has settled of a run's; imports neither torch nor matplotlib."""

import datetime as dt
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from nqcast.constants import WARMUP_BARS
from nqcast.fields import Configuration, changed, require
from nqcast.market.config import IngestConfig
from nqcast.storage.checkpoint import Checkpoint, Metadata


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


def require_as_trained(metadata: Metadata, asked: Mapping[str, Any]) -> None:
    """Raise ValueError where instrument (a symbol), horizons or quantiles were `asked` for otherwise than trained."""
    symbol = (metadata.data.instrument or {}).get("symbol", asked.get("instrument"))
    trained = {"instrument": symbol, "horizons": metadata.horizons, "quantiles": metadata.quantiles}
    for name, value in asked.items():
        require(name, trained[name], value)


def as_trained(checkpoint: Checkpoint, asked: IngestConfig) -> IngestConfig:
    """`asked`, of which spacing, instrument, tick and the use of volume are those of the training.

    A file may hold volume that the training has not seen; it is not used.

    Raises:
        ValueError: one of them was set to something else.
    """
    volume, data = with_volume(checkpoint), checkpoint.metadata.data
    require("volume", volume, asked.volume and volume)
    product = asked.of_product(data.instrument, data.tick)
    return changed(product.at(checkpoint.metadata.spacing), {"volume": volume})


def with_volume(checkpoint: Checkpoint) -> bool:
    """Whether training saw volume: without it log_volume is 0 on every row, and so is its mean."""
    mean_F = checkpoint.member(0).tensors["model.norm.feature_mean_F"]
    return bool(mean_F[checkpoint.metadata.features.index("log_volume")] != 0)

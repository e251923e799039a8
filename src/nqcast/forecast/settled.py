"""What a checkpoint has settled: of which product, how far apart, in which steps, with volume or not, and for when."""

from collections.abc import Mapping
from typing import Any

from nqcast.fields import require
from nqcast.market.config import IngestConfig
from nqcast.storage.checkpoint import Checkpoint, Metadata


def require_as_trained(metadata: Metadata, asked: Mapping[str, Any]) -> None:
    """Raise ValueError where instrument (a symbol), horizons or quantiles were `asked` for otherwise than trained."""
    symbol = (metadata.data.instrument or {}).get("symbol", asked.get("instrument"))
    trained = {"instrument": symbol, "horizons": metadata.horizons, "quantiles": metadata.quantiles}
    for name, value in asked.items():
        require(name, trained[name], value)


def settled(checkpoint: Checkpoint, asked: IngestConfig) -> IngestConfig:
    """`asked`, of which spacing, instrument, tick and the use of volume are those of the training.

    A file may hold volume that the training has not seen; it is not used.

    Raises:
        ValueError: one of them was set to something else.
    """
    volume, data = with_volume(checkpoint), checkpoint.metadata.data
    require("volume", volume, asked.volume and volume)
    product = asked.of_product(data.instrument, data.tick)
    return product.at(checkpoint.metadata.spacing).model_copy(update={"volume": volume})


def with_volume(checkpoint: Checkpoint) -> bool:
    """Whether training saw volume: without it log_volume is 0 on every row, and so is its mean."""
    mean_F = checkpoint.member(0).tensors["model.norm.feature_mean_F"]
    return bool(mean_F[checkpoint.metadata.features.index("log_volume")] != 0)

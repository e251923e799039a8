"""What a checkpoint has settled: of which product, how far apart, in which steps, with volume or not, and for when."""

import math
from collections.abc import Mapping
from typing import Any

from nqcast.market.config import IngestConfig
from nqcast.market.instruments import Instrument
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
    data, volume, chosen = checkpoint.metadata.data, with_volume(checkpoint), asked.model_fields_set
    row = Instrument(**data.instrument) if data.instrument else asked.instrument
    tick = data.tick or asked.tick
    require("instrument", row.symbol, asked.instrument.symbol if "instrument" in chosen else row.symbol)
    if not math.isclose(tick, asked.tick, rel_tol=1e-6):  # that of the training was read from its features
        require("ingest.tick", tick, asked.tick if "tick" in chosen else tick)
    require("volume", volume, asked.volume and volume)
    changes = {"volume": volume, "tick": tick, "instrument": row}
    return asked.at(checkpoint.metadata.spacing).model_copy(update=changes)


def with_volume(checkpoint: Checkpoint) -> bool:
    """Whether training saw volume: without it log_volume is 0 on every row, and so is its mean."""
    mean_F = checkpoint.member(0).tensors["model.norm.feature_mean_F"]
    return bool(mean_F[checkpoint.metadata.features.index("log_volume")] != 0)


def require(name: str, trained: Any, asked: Any) -> None:
    """Raise ValueError where a parameter was `asked` for otherwise than `trained`."""
    if asked != trained:
        written = ("+".join(map(str, value)) if isinstance(value, tuple) else value for value in (trained, asked))
        raise ValueError(
            "expected {}={}, by which the checkpoint was trained, found {}: leave it out, or train with it".format(
                name, *written
            )
        )

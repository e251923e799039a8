"""A checkpoint that verifies may still contradict itself; it is asked before anything is built from it."""

import re
from collections.abc import Iterator

import numpy as np
import torch
from pydantic import ValidationError

from nqcast import __version__
from nqcast.constants import FEATURES
from nqcast.data.own_features import is_own
from nqcast.data.trailing import check_trailing
from nqcast.horizons import DEFAULT, in_order
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.model.members import Members
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import KEPT, Checkpoint, Metadata
from nqcast.training.resume import weight_differences


def checked_config(checkpoint: Checkpoint) -> ModelConfig:
    """The configuration of a checkpoint's network, once names, order, levels, horizons, shapes and values agree.

    Shapes are compared with those of a network without memory, so that no size in the metadata asks for any.

    Raises:
        ValueError: they do not; says the first thing that is wrong.
    """
    try:
        config = ModelConfig(**checkpoint.metadata.model)
    except (ValidationError, TypeError) as error:
        raise ValueError(
            f"expected a checkpoint's configuration of the network, found what is none ({error}): train it again"
        ) from error
    for wrong in (*_contradictions(checkpoint.metadata, config), *_wrong_tensors(checkpoint, config)):
        raise ValueError(
            f"expected a checkpoint that agrees with itself and with this version, found {wrong}: take another "
            "checkpoint, or train this one again"
        )
    return config


def _contradictions(metadata: Metadata, config: ModelConfig) -> Iterator[str]:
    if metadata.version and _series(metadata.version) > _series(__version__):
        yield f"version {metadata.version!r}, later than {__version__}"
    own = metadata.features[len(FEATURES) :]
    if metadata.features[: len(FEATURES)] != FEATURES or not all(map(is_own, own)):
        yield f"features {list(metadata.features)} instead of {list(FEATURES)} in this order, then the user's own"
    if config.n_features != len(metadata.features):
        yield f"{len(metadata.features)} features for a network of {config.n_features}"
    if config.n_horizons != len(metadata.horizons) or not _are_horizons(metadata.horizons):
        yield f"horizons {list(metadata.horizons)} for a network of {config.n_horizons}, expected so many, rising"
    elif (of_scale := tuple(metadata.scale.get("horizons", DEFAULT))) != metadata.horizons:
        yield f"horizons {list(metadata.horizons)} beside a scale of {list(of_scale)}"
    if (bars_of := metadata.scale.get("bar_minutes", Spacing().minutes)) != config.bar_minutes:
        yield f"a scale for bars of {bars_of} minutes beside a network for bars of {config.bar_minutes}"
    tick = metadata.data.tick
    if tick is not None and not (isinstance(tick, int | float) and 0 < tick < np.inf):
        yield f"a tick of {tick!r}, expected points"
    levels = metadata.quantiles
    if levels != config.quantiles or list(levels) != sorted(set(levels)) or not all(0 < tau < 1 for tau in levels):
        yield f"levels {list(levels)} for a network of {list(config.quantiles)}, expected the same ones, rising"


def _are_horizons(names: tuple[str, ...]) -> bool:
    try:
        return in_order(names) == names
    except (ValueError, TypeError):
        return False


def _wrong_tensors(checkpoint: Checkpoint, config: ModelConfig) -> Iterator[str]:
    shapes = {name: array.shape for name, array in checkpoint.part("model").items()}
    if config.n_time_blocks + config.n_variable_blocks > len(shapes):  # a network of so many would take hours to name
        yield f"{len(shapes)} weights for {config.n_time_blocks + config.n_variable_blocks} blocks"
        return
    with torch.device("meta"):
        networks = [MIGT_TVDT(config) for _ in range(min(checkpoint.members or 1, len(shapes)))]
        differences = weight_differences(Members(networks) if checkpoint.members else networks[0], shapes)
    if differences:
        yield "; ".join(differences[:4]) + (f"; and {len(differences) - 4} more" if len(differences) > 4 else "")
    if checkpoint.trailing:
        check_trailing(checkpoint.trailing)
    for name, array in checkpoint.tensors.items():
        if not name.startswith(KEPT) and array.dtype.kind == "f" and not np.isfinite(array).all():
            yield f"{np.count_nonzero(~np.isfinite(array))} values in {name} that are not finite"


def _series(version: object) -> tuple[int, ...]:
    """Major and minor number; what is no version is later than all."""
    found = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return tuple(map(int, found.groups())) if found else (1 << 30,)

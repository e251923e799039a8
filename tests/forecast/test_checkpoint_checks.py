"""Hashes that are right prove nothing: a checkpoint that contradicts itself is refused before anything is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nqcast
from nqcast.constants import FEATURES, LEVELS
from nqcast.storage.checkpoint import MANIFEST, Checkpoint, checkpoint_files
from nqcast.storage.verified import write_folder


def metadata(**fields: object) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: replace(checkpoint, metadata=replace(checkpoint.metadata, **fields))


def data(**fields: object) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: metadata(data=replace(checkpoint.metadata.data, **fields))(checkpoint)


def scalars(**fields: object) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: metadata(scale={**checkpoint.metadata.scale, **fields})(checkpoint)


def model(**fields: object) -> Callable[[Checkpoint], Checkpoint]:
    return lambda checkpoint: metadata(model={**checkpoint.metadata.model, **fields})(checkpoint)


def tensor(name: str, value: float) -> Callable[[Checkpoint], Checkpoint]:
    def spoil(checkpoint: Checkpoint) -> Checkpoint:
        array = np.array(checkpoint.tensors[name])
        array.ravel()[-1] = value
        return replace(checkpoint, tensors={**checkpoint.tensors, name: array})

    return spoil


SPOILT = {
    "permuted features": (metadata(features=FEATURES[::-1]), "in this order"),
    "a feature less": (metadata(features=FEATURES[:-1]), "in this order"),
    "reversed levels": (metadata(quantiles=(0.95, 0.9, 0.75, 0.5, 0.25, 0.1, 0.05)), "expected the same ones, rising"),
    "other levels": (metadata(quantiles=(0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99)), "expected the same ones, rising"),
    "other horizons": (metadata(horizons=("15m", "30m", "60m", "2h", "8h")), "beside a scale of"),
    "horizons in another order": (metadata(horizons=("4h", "2h", "60m", "30m", "15m")), "rising"),
    "a horizon that is none": (metadata(horizons=("15m", "30m", "60m", "2h", "soon")), "rising"),
    "a network of fewer horizons": (model(n_horizons=4), "for a network of 4"),
    "a later version": (metadata(version="99.0"), "version '99.0', later than"),
    "a version that is none": (metadata(version=99), "version 99, later than"),
    "a missing number": (tensor("model.head.delta.weight", np.nan), r"1 values in model\.head\.delta\.weight"),
    "an infinite number": (tensor("model.norm.feature_std_F", np.inf), "not finite"),
    "a width of 13 TB": (model(d_model=2**20, n_heads=2), "instead of"),
    "a million blocks": (model(n_time_blocks=10**6), "blocks"),
    "no such field": (model(law=1), "what is none"),
    "a tick in words": (data(tick="0.25"), "a tick of '0.25'"),
    "a tick below zero": (data(tick=-5.0), "a tick of -5"),
    "a scale of other levels": (scalars(levels=LEVELS[::-1]), "scale with rising quantiles"),
    "a scale without settings": (scalars(config=None), "the checkpoint's scale, found what is none"),
    "a scale that falls": (tensor("scale.unit_quantiles_HQ", -9.0), "scale with rising quantiles"),
    "another scale": (lambda c: replace(c, tensors={k: v for k, v in c.tensors.items() if k[0] == "m"}), r"scale\.…"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_checkpoint_that_contradicts_itself_is_refused(
    how: str, plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    spoil, message = SPOILT[how]
    write_folder(tmp_path / "checkpoint", checkpoint_files(spoil(plain_checkpoint)), MANIFEST)
    with pytest.raises(ValueError, match=message):
        nqcast.load(tmp_path / "checkpoint")
    nqcast.load(plain_checkpoint)


def test_a_header_that_promises_more_than_the_file_holds_is_refused(
    plain_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    files = checkpoint_files(plain_checkpoint)
    weights = files["model.safetensors"]
    size = int.from_bytes(weights[:8], "little")
    header = weights[8 : 8 + size].replace(b'"shape":[12,5]', b'"shape":[12,9]', 1)
    files["model.safetensors"] = weights[:8] + header + weights[8 + size :]
    assert files["model.safetensors"] != weights
    write_folder(tmp_path / "checkpoint", files, MANIFEST)
    with pytest.raises(ValueError, match="of another kind"):
        nqcast.load(tmp_path / "checkpoint")

"""Forecasts of a checkpoint at any anchors; beside `explain` the only module that knows the model.

A checkpoint that verifies may still contradict itself; it is asked before anything is built from it.

Shapes: N anchors · H horizons · Q levels; quantiles and scale in log-return units.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from pydantic import ValidationError
from tqdm import tqdm

from nqcast import __version__
from nqcast.batches import Batch, outputs
from nqcast.constants import FEATURES
from nqcast.data.own_features import feature_names, is_own
from nqcast.data.scale import Scale
from nqcast.data.seasonal_har import scale_from_state
from nqcast.data.trailing import check_trailing
from nqcast.data.windows import WindowTable
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.evaluation.frames import FrameStream, Positions, predictions_frame
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import DEFAULT, check_horizons, in_order
from nqcast.model import MIGT_TVDT, fuse
from nqcast.model.config import ModelConfig
from nqcast.model.members import Members, Network
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import KEPT, Checkpoint, Metadata
from nqcast.training.device import pick_device
from nqcast.training.resume import as_tensors, weight_differences

CHUNK_ANCHORS = 16_384
"""Anchors that a stream of forecasts holds at a time: 4.6 MB of quantiles."""


def load_model(checkpoint: Checkpoint) -> Network:
    """The network of a checkpoint, or its several as one, in evaluation mode.

    Raises:
        ValueError: the checkpoint contradicts itself.
    """
    config = checked_config(checkpoint)
    networks = [MIGT_TVDT(config) for _ in range(checkpoint.members or 1)]
    model: Network = Members(networks) if checkpoint.members else networks[0]
    model.load_state_dict(as_tensors(checkpoint.tensors, "model"), strict=True)
    for network in networks:
        fuse(network)
    return model.eval()


def load_scale(checkpoint: Checkpoint) -> Scale:
    """The fitted scale of a checkpoint; ValueError where it is none, or of other levels than the network's."""
    levels, horizons = checkpoint.metadata.quantiles, checkpoint.metadata.horizons
    try:
        scale = scale_from_state(checkpoint.part("scale"), checkpoint.metadata.scale)
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"expected the checkpoint's scale, found what is none ({error}): train it again") from error
    unit_HQ = scale.unit_quantiles_HQ
    if scale.levels != levels or unit_HQ.shape != (len(horizons), len(levels)) or (np.diff(unit_HQ) < 0).any():
        raise ValueError(
            f"expected a scale with rising quantiles of the levels {list(levels)} at {len(horizons)} horizons, found "
            f"{unit_HQ.shape[0]} rows of the levels {list(scale.levels)}: train the checkpoint again"
        )
    return scale


def predict(
    checkpoint: Checkpoint, features: pd.DataFrame, positions: Positions, config: EvaluateConfig | None = None
) -> tuple[Floats, Floats]:
    """Quantiles (N, H, Q) and scale (N, H), both in log-return units, at row ``positions`` of ``features``.

    Memory beyond one chunk of anchors is the feature table and the result. A forecast uses its bar and earlier ones.
    ValueError when the checkpoint was trained on other features.
    """
    predictor = predictor_of(checkpoint, features, config)
    quantiles_NHQ = np.empty((len(positions), predictor.model.config.n_horizons, len(predictor.model.config.quantiles)))
    start = 0
    for part in predictor.stream(positions):
        quantiles_NHQ[start : start + len(part.positions)] = part.quantiles_NHQ
        start += len(part.positions)
    return quantiles_NHQ, predictor.scale_NH[positions]


def predict_frame(
    checkpoint: Checkpoint, features: pd.DataFrame, positions: Positions, config: EvaluateConfig | None = None
) -> pd.DataFrame:
    """The predictions frame of a checkpoint: ts, session, horizon, target, q05 … q95, scale (log-return units)."""
    metadata = checkpoint.metadata
    quantiles, scale = predict(checkpoint, features, positions, config)
    return predictions_frame(features, positions, quantiles, scale, metadata.quantiles, metadata.horizons)


def predict_stream(
    checkpoint: Checkpoint,
    features: pd.DataFrame,
    positions: Positions,
    config: EvaluateConfig | None = None,
    chunk: int = CHUNK_ANCHORS,
) -> FrameStream:
    """The rows of `predict_frame` as frames of ``chunk`` anchors; a wrong checkpoint is refused here, not later.

    Scale and model are made once. Beyond the feature table only one chunk is held, however many anchors there are.
    """
    predictor, metadata = predictor_of(checkpoint, features, config), checkpoint.metadata
    return FrameStream(lambda: predictor.frames(positions, metadata.quantiles, metadata.horizons, chunk))


def predictor_of(checkpoint: Checkpoint, features: pd.DataFrame, config: EvaluateConfig | None = None) -> Predictor:
    """A checkpoint over one feature table; ValueError when it was trained on other features."""
    config = config or EvaluateConfig()
    _check_features(checkpoint, features)
    model = load_model(checkpoint).to(pick_device(config.device))
    return Predictor(model, load_scale(checkpoint), features, config.batch_size)


class Forecast(NamedTuple):
    """Forecasts at some anchors: rows of the features (N,), quantiles (N, H, Q), scale (N, H)."""

    positions: Positions
    quantiles_NHQ: Floats
    scale_NH: Floats


class Predictor:
    """A model and its scale over one feature table: all that does not depend on the anchors is made once.

    Args:
        model: in evaluation mode, on the device that forecasts.
        scale: fitted.
        features: the feature table.
        batch_size: anchors per forward pass.
    """

    def __init__(self, model: Network, scale: Scale, features: pd.DataFrame, batch_size: int) -> None:
        check_horizons(features.columns, scale.horizons)
        self.model, self.scale, self.features, self.batch_size = model, scale, features, batch_size
        self.scale_NH, volatility_NK = scale.describe(features)
        device = next(model.parameters()).device
        self.table = WindowTable(features, self.scale_NH, device, model.config.context, volatility_NK=volatility_NK)

    def stream(self, positions: Positions, chunk: int = CHUNK_ANCHORS) -> Iterator[Forecast]:
        """Forecasts at ``positions`` in their order, ``chunk`` anchors at a time."""
        units = self._unit_quantiles(positions)
        with tqdm(total=len(positions), desc="forecasts", unit="anchor", disable=None, leave=False, delay=2) as bar:
            for start in range(0, len(positions), chunk):
                part = positions[start : start + chunk]
                unit_NHQ = None if units is None else units.table_SHQ[units.session_N[start : start + chunk]]
                yield Forecast(part, self._forward(part, unit_NHQ), self.scale_NH[part])
                bar.update(len(part))

    def frames(
        self,
        positions: Positions,
        levels: Sequence[float],
        horizons: Sequence[str],
        chunk: int = CHUNK_ANCHORS,
        calibration: ConformalCalibration | None = None,
    ) -> Iterator[pd.DataFrame]:
        """The forecasts of `stream` as predictions frames, a chunk at a time; calibrated, where something says how."""
        for rows, quantiles_NHQ, scale_NH in self.stream(positions, chunk):
            issued = quantiles_NHQ if calibration is None else calibration.apply(quantiles_NHQ, scale_NH)
            yield predictions_frame(self.features, rows, issued, scale_NH, levels, horizons)

    @torch.inference_mode()
    def _forward(self, positions: Positions, unit_NHQ: Floats | None) -> Floats:
        """Quantiles (N, H, Q); results stay on the device until the last batch, so that a GPU is waited for once."""
        full, found = bool((positions >= self.table.context - 1).all()), []
        for start in range(0, len(positions), self.batch_size):
            rows = slice(start, start + self.batch_size)
            batch: Batch = self.table.gather(positions[rows], full=full)
            if unit_NHQ is not None:
                batch["unit_quantiles"] = torch.from_numpy(unit_NHQ[rows]).float().to(self.table.device)
            found.append(outputs(self.model, batch)["quantiles"])
        return torch.cat(found).cpu().double().numpy()

    def _unit_quantiles(self, positions: Positions) -> _BySession | None:
        """Rolling quantiles of the anchors' sessions, of which all anchors of a session share one table."""
        if not self.scale.config.rolling_quantiles:
            return None
        session = np.cumsum(self.features["session_first"].to_numpy(bool))[positions]
        _, first, index = np.unique(session, return_index=True, return_inverse=True)
        return _BySession(self.scale.rolling_quantiles(self.features, self.scale_NH, positions[first]), index)


class _BySession(NamedTuple):
    """Unit quantiles of S sessions (S, H, Q), and which of them each anchor takes (N,)."""

    table_SHQ: Floats
    session_N: Positions


def _check_features(checkpoint: Checkpoint, features: pd.DataFrame) -> None:
    trained, known = list(checkpoint.metadata.features), list(feature_names(features))
    missing = [c for c in FEATURES if c not in features.columns]
    if missing:
        raise ValueError(f"expected a features frame, found no column {missing}: run the features pipeline")
    if trained != known:
        raise ValueError(f"expected a checkpoint trained on {known}, found one on {trained}: train it again")


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
    """Major and minor number of a version; what is none is later than all."""
    found = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    return tuple(map(int, found.groups())) if found else (1 << 30,)

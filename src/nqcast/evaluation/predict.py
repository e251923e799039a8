"""Forecasts of a checkpoint at any anchors; the only module of this package that knows the model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from nqcast.data.config import FEATURES
from nqcast.data.scale import Scale, scale_from_state
from nqcast.data.windows import WindowTable
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.forecasts import Positions, predictions_frame
from nqcast.evaluation.metrics import Floats
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.training.precision import pick_device

Checkpoint = dict[str, Any]


def load_model(checkpoint: Checkpoint) -> MIGT_TVDT:
    """The network of a checkpoint, in evaluation mode; ValueError when its weights are not those of its config."""
    model = MIGT_TVDT(ModelConfig(**checkpoint["metadata"]["model"]))
    weights = {name: torch.from_numpy(array) for name, array in _part(checkpoint, "model").items()}
    expected = set(model.state_dict())
    if set(weights) != expected:
        raise ValueError(
            f"expected the weights of the configured model, missing {sorted(expected - set(weights))}, unknown "
            f"{sorted(set(weights) - expected)}: take a checkpoint that this version of the model has written"
        )
    model.load_state_dict(weights, strict=True)
    return model.eval()


def load_scale(checkpoint: Checkpoint) -> Scale:
    """The fitted scale of a checkpoint."""
    return scale_from_state(_part(checkpoint, "scale"), checkpoint["metadata"]["scale"])


def predict(
    checkpoint: Checkpoint, features: pd.DataFrame, positions: Positions, config: EvaluateConfig | None = None
) -> tuple[Floats, Floats]:
    """Quantiles (N, H, Q) and scale (N, H), both in log-return units, at row ``positions`` of ``features``.

    Streams in batches of ``config.batch_size``; memory beyond one batch is the feature table and the result. A
    forecast uses its bar and earlier ones. ValueError when the checkpoint was trained on other features.
    """
    config = config or EvaluateConfig()
    _check_features(checkpoint, features)
    model, scale, device = load_model(checkpoint), load_scale(checkpoint), pick_device(config.device)
    scale_NH = scale.transform(features)
    unit = None
    if scale.config.rolling_quantiles:
        unit = scale.rolling_quantiles(features, scale_NH, np.arange(len(features)))
    table = WindowTable(features, scale_NH, device, model.config.context, unit)
    return _forward(model.to(device), table, positions, config.batch_size), scale_NH[positions]


def predict_frame(
    checkpoint: Checkpoint, features: pd.DataFrame, positions: Positions, config: EvaluateConfig | None = None
) -> pd.DataFrame:
    """The predictions frame of a checkpoint: ts, session, horizon, target, q05 … q95, scale (log-return units)."""
    metadata = checkpoint["metadata"]
    quantiles, scale = predict(checkpoint, features, positions, config)
    return predictions_frame(features, positions, quantiles, scale, metadata["quantiles"], metadata["horizons"])


@torch.inference_mode()
def _forward(model: MIGT_TVDT, table: WindowTable, positions: Positions, batch_size: int) -> Floats:
    shape = (len(positions), model.config.n_horizons, len(model.config.quantiles))
    quantiles_NHQ = np.empty(shape)
    starts = range(0, len(positions), batch_size)
    for start in tqdm(starts, desc="forecasts", unit="batch", disable=None, leave=False, delay=2):
        batch = table.gather(positions[start : start + batch_size])
        output = model(
            batch["features"],
            batch.get("attention_mask"),
            batch["temporal_info"],
            batch["scale"],
            batch.get("unit_quantiles"),
        )
        quantiles_NHQ[start : start + batch_size] = output["quantiles"].double().cpu().numpy()
    return quantiles_NHQ


def _part(checkpoint: Checkpoint, prefix: str) -> dict[str, NDArray[Any]]:
    start = f"{prefix}."
    found = {k.removeprefix(start): np.array(v) for k, v in checkpoint["tensors"].items() if k.startswith(start)}
    if not found:
        raise ValueError(f"expected tensors named {start}… in the checkpoint, found none: train again")
    return found


def _check_features(checkpoint: Checkpoint, features: pd.DataFrame) -> None:
    trained, missing = checkpoint["metadata"]["features"], [c for c in FEATURES if c not in features.columns]
    if missing:
        raise ValueError(f"expected a features frame, found no column {missing}: run the features pipeline")
    if list(trained) != list(FEATURES):
        raise ValueError(
            f"expected a checkpoint trained on {list(FEATURES)}, found one on {list(trained)}: train it again"
        )

"""What the network of a checkpoint uses: permutation importance, gates, attention over variables and over time.

Beside `predict` the only module of this package that knows the model: weights inside its blocks are in no forecast.
Of several networks that forecast as one the importance is that of all, gates and attention are those of the first.

Shapes: N anchors · F features · H horizons · P patches · K variable blocks.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from nqcast.batches import Batch, outputs
from nqcast.data.own_features import feature_names
from nqcast.data.windows import WindowTable
from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.session_losses import session_part
from nqcast.evaluation.significance import Estimate, session_sums, skill_with_interval, stationary_bootstrap
from nqcast.forecast.predictor import Predictor, predictor_of
from nqcast.horizons import horizons_of
from nqcast.model import MIGT_TVDT
from nqcast.model.attention_weights import AttentionAndGates, attention_and_gates, windows_at_once
from nqcast.model.config import ModelConfig
from nqcast.model.members import first_of
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


def spread_evenly(positions: Positions, count: int) -> Positions:
    """At most ``count`` of the positions, evenly through all of them, first and last included."""
    chosen = np.linspace(0, len(positions) - 1, min(count, len(positions)))
    return positions[np.unique(chosen.round().astype(np.int64))]


def donors(group_N: NDArray[np.object_], rng: np.random.Generator) -> Positions:
    """For each anchor the index of another one of its group; every anchor gives once.

    The members of a group stand in a random ring and each takes from its neighbour, so nobody keeps its own, except
    where it is alone in its group.
    """
    giver_N = np.arange(len(group_N))
    for group in np.unique(group_N.astype(str)):
        ring = rng.permutation(np.flatnonzero(group_N.astype(str) == group))
        giver_N[ring] = np.roll(ring, 1)
    return giver_N


def importance(
    loss_NH: Floats,
    permuted_FNH: Floats,
    session_N: ArrayLike,
    resamples_RS: NDArray[np.int64],
    confidence: float = 0.95,
) -> list[Estimate]:
    """The rise of the loss by each feature, as a share, per horizon and in the mean (H + 1), with its interval.

    Σ (permuted loss − loss) / Σ loss over anchors with a defined target (NaN elsewhere); sessions are resampled whole.
    """
    own_SH = session_sums(loss_NH, session_N)
    return [
        skill_with_interval(own_SH, session_sums(one_NH, session_N), own_SH, resamples_RS, confidence)
        for one_NH in permuted_FNH
    ]


def named(estimates: Sequence[Estimate], features: Sequence[str], horizons: Sequence[str]) -> dict[str, Any]:
    """{feature: {horizon: {rise, low, high}}}, the mean over horizons among them; shares of the loss."""
    names = [*horizons, MEAN]
    return {
        feature: {
            horizon: {"rise": float(value), "low": float(low), "high": float(high)}
            for horizon, value, low, high in zip(names, one.value, one.low, one.high, strict=True)
        }
        for feature, one in zip(features, estimates, strict=True)
    }


logger = logging.getLogger(__name__)

Explanation = Json
Windows = tuple[Batch, Tensor]


def explain(
    checkpoint: Checkpoint, features: pd.DataFrame, positions: Positions, config: EvaluateConfig
) -> Explanation:
    """What the network uses at a bounded, even sample of the anchors at row ``positions``, as JSON-able values.

    Returns:
        anchors (count, first, last); and unless `config.explain_anchors` is 0: importance {feature: {horizon: {rise,
        low, high}}} in shares of the loss; gates [{feature: {mean, low, high}}] per variable block (10 and 90 % of
        values); variable_attention [(F, F) lists] per block, row looks at column; variable_pool {feature: weight};
        time {patch_bars, pool, rollout: {feature: weights, newest patch first}}.
    """
    if config.explain_anchors == 0:
        return {"anchors": {"count": 0}}
    chosen = spread_evenly(positions, config.explain_anchors)
    predictor = predictor_of(checkpoint, features, config)
    levels, ts = checkpoint.metadata.quantiles, features["ts"].iloc[chosen]
    logger.info(
        "looking into the network at %d anchors, %d features each", len(chosen), predictor.model.config.n_features
    )
    explanation: Explanation = {
        "anchors": {"count": len(chosen), "first": f"{ts.iloc[0]}", "last": f"{ts.iloc[-1]}"},
        "importance": _importance(predictor, chosen, levels, config),
    }
    if predictor.model.config.tokens:
        inside = weights_by_batch(first_of(predictor.model), predictor.table, chosen)
        explanation |= _weights(inside, feature_names(features), predictor.model.config)
    return explanation


def _importance(predictor: Predictor, chosen: Positions, levels: tuple[float, ...], config: EvaluateConfig) -> Json:
    features, rng = predictor.features, np.random.default_rng(config.seed)
    horizons = horizons_of(features.columns)
    giver = donors(session_part(features["ts"].iloc[chosen]), rng)
    targets = targets_at(features, chosen, horizons)
    loss, permuted = permuted_losses(windows_of(predictor, chosen, chosen[giver]), predictor.model, targets, levels)
    session = features["session"].to_numpy()[chosen]
    resamples = stationary_bootstrap(len(np.unique(session)), config.mean_block, config.bootstrap_replications, rng)
    return named(importance(loss, permuted, session, resamples, config.confidence), feature_names(features), horizons)


def windows_of(predictor: Predictor, positions: Positions, donor_positions: Positions) -> Iterator[Windows]:
    """Batches of windows, and the feature windows of their donors."""
    unit_NHQ = None
    if predictor.scale.config.rolling_quantiles:
        unit_NHQ = predictor.scale.rolling_quantiles(predictor.features, predictor.scale_NH, positions)
    for start in range(0, len(positions), predictor.batch_size):
        part = slice(start, start + predictor.batch_size)
        batch: Batch = predictor.table.gather(positions[part])
        if unit_NHQ is not None:
            batch["unit_quantiles"] = torch.from_numpy(unit_NHQ[part]).float().to(predictor.table.device)
        yield batch, predictor.table.gather(donor_positions[part])["features"]


@torch.inference_mode()
def permuted_losses(
    windows: Iterable[Windows], model: nn.Module, targets_NH: Floats, levels: tuple[float, ...]
) -> tuple[Floats, Floats]:
    """Pinball loss (N, H) of the forecasts, and (F, N, H) with each feature's window taken from the donor instead.

    The clock, the scale and the unit quantiles stay the anchor's own.
    """
    loss, permuted, start = [], [], 0
    for batch, donor_BTF in windows:
        own_BTF = batch["features"]
        targets_BH = targets_NH[start : start + len(own_BTF)]
        start += len(own_BTF)
        loss.append(_loss(model, batch, own_BTF, targets_BH, levels))
        mixed = (_with_column(own_BTF, donor_BTF, f) for f in range(own_BTF.shape[-1]))
        permuted.append(np.stack([_loss(model, batch, one_BTF, targets_BH, levels) for one_BTF in mixed]))
    return np.concatenate(loss), np.concatenate(permuted, axis=1)


def _with_column(own_BTF: Tensor, donor_BTF: Tensor, f: int) -> Tensor:
    mixed_BTF = own_BTF.clone()
    mixed_BTF[..., f] = donor_BTF[..., f]
    return mixed_BTF


def _loss(
    model: nn.Module, batch: Batch, features_BTF: Tensor, targets_BH: Floats, levels: tuple[float, ...]
) -> Floats:
    quantiles_BHQ = outputs(model, {**batch, "features": features_BTF})["quantiles"].double().cpu().numpy()
    return metrics.anchor_loss(quantiles_BHQ, targets_BH, levels)


def weights_by_batch(model: MIGT_TVDT, table: WindowTable, positions: Positions) -> Iterator[AttentionAndGates]:
    """The model's weights at the anchors, batch after batch."""
    size = min(256, windows_at_once(model))
    for start in range(0, len(positions), size):
        yield attention_and_gates(model, table.gather(positions[start : start + size]))


def _weights(inside: Iterator[AttentionAndGates], names: Sequence[str], config: ModelConfig) -> Explanation:
    """Means over anchors (and channels of the gates), by feature name."""
    parts = list(inside)

    def joined(name: str, axis: int) -> Floats:
        return np.concatenate([getattr(part, name).float().cpu().numpy() for part in parts], axis=axis)

    pool_PF, rollout_PF = (joined(name, 0).mean(0).T[::-1] for name in ("time_BVP", "rollout_BVP"))
    gates = []
    for gate_NFD in joined("gate_KBVD", 1):
        low_F, high_F = np.quantile(gate_NFD, [0.1, 0.9], axis=(0, 2))
        rows = zip(names, gate_NFD.mean((0, 2)), low_F, high_F, strict=True)
        gates.append({name: {"mean": float(m), "low": float(a), "high": float(b)} for name, m, a, b in rows})
    return {
        "gates": gates,
        "variable_attention": joined("attention_KBVV", 1).mean(1).astype(float).tolist(),
        "variable_pool": dict(zip(names, joined("variable_BV", 0).mean(0).astype(float).tolist(), strict=True)),
        "time": {
            "patch_bars": config.patch_length,
            **config.model_dump(include={"bar_minutes"}),
            "pool": dict(zip(names, pool_PF.T.astype(float).tolist(), strict=True)),
            "rollout": dict(zip(names, rollout_PF.T.astype(float).tolist(), strict=True)),
        },
    }

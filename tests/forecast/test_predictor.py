"""Forecasts of a checkpoint: start at the scale's quantiles, see nothing later, and do not depend on the batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from nqcast.constants import CLOCK, FEATURES
from nqcast.data.config import ScaleConfig
from nqcast.data.seasonal_har import make_scale
from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.predictor import load_model, load_scale, predict, predict_frame
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig
from nqcast.runs.train import validation_report
from nqcast.storage.checkpoint import Checkpoint, Metadata

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")
TRAIN = np.arange(2760, 276 * 30)
ANCHORS = np.arange(276 * 31, 276 * 31 + 40)


@pytest.fixture(scope="module")
def features(market: Callable[..., pd.DataFrame]) -> pd.DataFrame:
    frame = market(36)
    return frame.assign(**{name: 1 + np.arange(len(frame)) % 5 for name in CLOCK if name not in frame})


def checkpoint_of(features: pd.DataFrame, noise: float = 0.0, seed: int = 0, **scale: object) -> Checkpoint:
    """A checkpoint of the test-size model; ``noise`` moves its weights away from the start."""
    torch.manual_seed(seed)
    model, fitted = MIGT_TVDT(ModelConfig(size="test")), make_scale(ScaleConfig(**scale)).fit(features, TRAIN)
    rows = features[list(FEATURES)].to_numpy()[TRAIN]
    model.set_base(fitted.unit_quantiles_HQ, rows.mean(axis=0), rows.std(axis=0))
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(noise * torch.randn_like(weight))
    arrays, scalars = fitted.state()
    tensors = {f"model.{k}": v.numpy().copy() for k, v in model.state_dict().items()}
    tensors |= {f"scale.{k}": v for k, v in arrays.items()}
    config = model.config.model_dump(mode="json")
    metadata = Metadata(model=config, scale=scalars, features=FEATURES, quantiles=LEVELS, horizons=HORIZONS)
    return Checkpoint(tensors, metadata)


def test_an_untrained_checkpoint_forecasts_what_its_scale_says(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features)
    quantiles, scale = predict(checkpoint, features, ANCHORS)
    fitted = load_scale(checkpoint)
    assert (scale == fitted.transform(features)[ANCHORS]).all()
    assert quantiles == pytest.approx(scale[:, :, None] * fitted.unit_quantiles_HQ, abs=1e-8)


def test_forecasts_do_not_depend_on_the_batch(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features, noise=0.1)
    whole, _ = predict(checkpoint, features, ANCHORS, EvaluateConfig(batch_size=64))
    parts, _ = predict(checkpoint, features, ANCHORS, EvaluateConfig(batch_size=7))
    assert parts == pytest.approx(whole, rel=1e-5, abs=1e-9)
    untrained, _ = predict(checkpoint_of(features), features, ANCHORS)
    assert np.abs(whole - untrained).max() > 1e-5


def test_what_comes_after_the_anchors_does_not_change_a_bit_of_their_forecasts(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features, noise=0.1)
    changed, later = features.copy(), features.index > ANCHORS[-1]
    for name in (*FEATURES, "realized_variance", "log_range"):
        changed.loc[later, name] = 2 * changed.loc[later, name].to_numpy()[::-1] + 0.5
    (before, scale), (after, same) = (predict(checkpoint, f, ANCHORS) for f in (features, changed))
    assert (before == after).all()
    assert (scale == same).all()


def test_rolling_quantiles_reach_the_model(features: pd.DataFrame) -> None:
    rolling = checkpoint_of(features, rolling_quantiles=True, rolling_sessions=5)
    quantiles, scale = predict(rolling, features, ANCHORS)
    table = load_scale(rolling).rolling_quantiles(features, load_scale(rolling).transform(features), ANCHORS)
    assert quantiles == pytest.approx(scale[:, :, None] * table, abs=1e-8)
    assert np.abs(table - load_scale(rolling).unit_quantiles_HQ).max() > 0.01


def test_the_frame_holds_the_forecasts_in_return_units(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features)
    frame, (quantiles, _) = predict_frame(checkpoint, features, ANCHORS), predict(checkpoint, features, ANCHORS)
    one_hour = frame[frame["horizon"] == "60m"]
    assert (one_hour["q90"].to_numpy() == quantiles[:, 2, 5]).all()
    assert (one_hour["target"].to_numpy() == features["target_60m"].to_numpy()[ANCHORS]).all()


def test_another_feature_list_or_foreign_weights_are_refused(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features)
    other = replace(checkpoint, metadata=replace(checkpoint.metadata, features=("close",)))
    with pytest.raises(ValueError, match=r"found one on \['close'\]"):
        predict(other, features, ANCHORS)
    foreign = replace(checkpoint, tensors={**checkpoint.tensors, "model.extra": np.zeros(3)})
    with pytest.raises(ValueError, match="unknown extra"):
        load_model(foreign)
    with pytest.raises(ValueError, match="found no column"):
        predict(checkpoint, features.drop(columns="rsi_14"), ANCHORS)


def test_the_validation_report_of_the_untrained_model_has_no_skill_over_its_own_scale(features: pd.DataFrame) -> None:
    checkpoint = checkpoint_of(features)
    report = validation_report(checkpoint, features, TRAIN, ANCHORS, EvaluateConfig())
    assert report["skill_seasonal_har"] == pytest.approx(0, abs=1e-5)
    quantiles, scale = predict(checkpoint, features, ANCHORS)
    targets = features[[f"target_{h}" for h in HORIZONS]].to_numpy()[ANCHORS]
    expected = metrics.named_metrics(quantiles, targets, LEVELS, HORIZONS, scale)
    assert {name: report[name] for name in expected} == expected

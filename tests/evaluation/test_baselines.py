"""Baselines: what each must know and must not know."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.config import EvaluateConfig

LEVELS = (0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95)
HORIZONS = ("15m", "30m", "60m", "2h", "4h")


def random_targets(n: int = 500) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"target_{h}": rng.standard_t(4, n) * 1e-3 for h in HORIZONS})
    return frame.mask(rng.random(frame.shape) < 0.1)


def test_constants_are_the_empirical_quantiles_of_the_train_anchors_alone() -> None:
    features, train = random_targets(), np.arange(0, 300, 2)
    baseline = make_baseline("constants", LEVELS, HORIZONS).fit(features, train)
    changed = features.copy()
    changed.iloc[300:] = 1.0
    quantiles = baseline.predict(changed, np.arange(400, 410))
    for h, name in enumerate(HORIZONS):
        expected = features[f"target_{name}"].to_numpy()[train]
        assert quantiles[7, h] == pytest.approx(np.quantile(expected[np.isfinite(expected)], LEVELS))


def test_no_other_constant_does_better_on_the_train_anchors() -> None:
    features, train = random_targets(20_000), np.arange(20_000)
    targets = features.to_numpy()
    quantiles = make_baseline("constants", LEVELS, HORIZONS).fit(features, train).predict(features, train)
    best = metrics.pinball_by_level(quantiles, targets, LEVELS)
    for shift in (-2e-4, -1e-4, 1e-4, 2e-4):
        assert (metrics.pinball_by_level(quantiles + shift, targets, LEVELS) > best - 1e-9).all()


def test_a_horizon_without_targets_and_an_unknown_baseline_are_errors() -> None:
    features = random_targets().assign(target_4h=np.nan)
    with pytest.raises(ValueError, match="expected at least 2 defined targets at horizon 4"):
        make_baseline("constants", LEVELS, HORIZONS).fit(features, np.arange(100))
    for name in ("prophet", "../constants", "os.path"):
        with pytest.raises(ValueError, match=r"no file baselines/"):
            make_baseline(name, LEVELS, HORIZONS)


def test_profiles_name_the_baselines_and_a_list_needs_constants() -> None:
    assert EvaluateConfig().baseline_names == (
        "constants",
        "time_of_day",
        "time_of_day_ewma",
        "log_har",
        "seasonal_har",
    )
    assert set(EvaluateConfig(baselines="full").baseline_names) > set(EvaluateConfig().baseline_names)
    assert EvaluateConfig(baselines=["constants", "log_har"]).baseline_names == ("constants", "log_har")
    for wrong in (["log_har"], ["constants", "prophet"], "most"):
        with pytest.raises(ValueError, match=r"baselines"):
            EvaluateConfig(baselines=wrong)

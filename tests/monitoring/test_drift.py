"""Feature drift: the index against its closed form, limits against data whose law is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.special import rel_entr

from nqcast.constants import FEATURES
from nqcast.monitoring.checks import bin_edges, drift_limits, session_counts, stability_index, stretch_indices

PER_SESSION, TRAIN, GAP, NEW = 12, 160, 20, 10


def slow_features(rng: np.random.Generator) -> pd.DataFrame:
    """Features that stay high or low for days: a slow shared wave, slow waves of their own, and noise."""
    sessions = TRAIN + GAP + NEW
    wave = np.zeros((sessions, len(FEATURES) + 1))
    for s in range(1, sessions):
        wave[s] = 0.7 * wave[s - 1] + 0.7 * rng.normal(size=wave.shape[1])
    values = 0.6 * wave[:, :1] + 0.6 * wave[:, 1:]
    rows = np.repeat(values, PER_SESSION, axis=0) + rng.normal(size=(sessions * PER_SESSION, len(FEATURES)))
    return pd.DataFrame(rows, columns=list(FEATURES)).assign(session=np.repeat(np.arange(sessions), PER_SESSION))


def crossed(frame: pd.DataFrame, rate: float) -> np.ndarray:
    train, new = np.arange(TRAIN * PER_SESSION), np.arange((TRAIN + GAP) * PER_SESSION, len(frame))
    edges = bin_edges(frame, train, 10)
    counts = session_counts(frame, train, edges, 10)
    value = stability_index(session_counts(frame, new, edges, 10).sum(axis=0), counts.sum(axis=0))
    return drift_limits(counts, NEW, rate).crossed(value)


def test_the_index_is_the_divergence_both_ways_and_zero_for_equal_shares() -> None:
    rng = np.random.default_rng(0)
    p, q = rng.integers(50, 500, (2, 3, 10)).astype(float)
    shares = [(c + 0.5) / (c + 0.5).sum(-1, keepdims=True) for c in (p, q)]
    expected = (rel_entr(shares[0], shares[1]) + rel_entr(shares[1], shares[0])).sum(-1)
    assert stability_index(p, q) == pytest.approx(expected)
    assert stability_index(1e6 * q, 1e6 * q) == pytest.approx(np.zeros(3), abs=1e-9)
    unused = np.pad(q, ((0, 0), (0, 2)))
    assert stability_index(np.pad(p, ((0, 0), (0, 2))), unused) == pytest.approx(expected)


def test_bins_of_training_hold_equal_shares_and_repeated_values_stay_together() -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({name: rng.normal(size=1000) for name in FEATURES}).assign(session=np.arange(1000) // 100)
    frame["rsi_14"] = 0.0
    rows = np.arange(1000)
    counts = session_counts(frame, rows, bin_edges(frame, rows, 10), 10)
    assert counts.shape == (10, len(FEATURES), 10)
    assert (counts.sum(axis=0)[0] == 100).all()
    assert sorted(counts.sum(axis=0)[list(FEATURES).index("rsi_14")])[-2:] == [0, 1000]


def test_every_stretch_is_compared_with_the_rest_alone() -> None:
    counts = np.random.default_rng(2).integers(1, 9, (12, len(FEATURES), 10)).astype(float)
    third = stability_index(counts[3:7].sum(axis=0), np.concatenate([counts[:3], counts[7:]]).sum(axis=0))
    assert stretch_indices(counts, 4)[3] == pytest.approx(third)
    with pytest.raises(ValueError, match="at least 15 training sessions for limits over 5, found 12"):
        drift_limits(counts, 5, 0.05)


@pytest.mark.slow
def test_data_of_the_same_law_cross_at_about_the_rate_though_usual_thresholds_would() -> None:
    alarms = [crossed(slow_features(np.random.default_rng(seed)), 0.1).any() for seed in range(150)]
    assert 0.03 <= np.mean(alarms) <= 0.19  # nominal .1, ± 3.5 standard errors of 150 runs


def test_a_shifted_feature_and_one_of_three_times_the_spread_are_named() -> None:
    frame = slow_features(np.random.default_rng(3))
    assert not crossed(frame, 0.02).any()
    new = frame.index >= (TRAIN + GAP) * PER_SESSION
    frame.loc[new, "amihud"] += 4.0
    frame.loc[new, "log_return"] *= 6.0
    assert [name for name, flag in zip(FEATURES, crossed(frame, 0.02), strict=True) if flag] == ["log_return", "amihud"]

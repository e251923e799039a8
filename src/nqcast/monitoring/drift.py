"""Do the features still look like those of training: population stability index and what it does by itself.

Shapes: S sessions · F features · B bins · R stretches. PSI = Σ (p − q)·ln(p / q) over bins that each hold an equal
share q of the training anchors, p the newest sessions' shares.

Volatility and volume stay high or low for weeks, so even without drift any few weeks differ from the years before;
the usual thresholds (.1, .25) know nothing of that. Limits here come from every stretch of as many consecutive
sessions in training, each compared with the rest of training: a block bootstrap whose block is the whole stretch.
"""

import numpy as np
import pandas as pd

from nqcast.data.own_features import feature_names
from nqcast.evaluation.frames import Positions
from nqcast.evaluation.metrics import Floats
from nqcast.monitoring.limits import Limits, joint_limits

HALF = 0.5  # added to every count: a bin that stays empty counts as half an anchor


def bin_edges(features: pd.DataFrame, train: Positions, bins: int) -> list[Floats]:
    """Inner edges of each feature's bins; fewer where values repeat."""
    shares = np.linspace(0, 1, bins + 1)[1:-1]
    return [
        np.unique(np.quantile(features[name].to_numpy(np.float64)[train], shares)) for name in feature_names(features)
    ]


def session_counts(features: pd.DataFrame, positions: Positions, edges: list[Floats], bins: int) -> Floats:
    """Anchors (S, F, B) of each session in each bin, sessions in time order."""
    _, session = np.unique(features["session"].to_numpy()[positions], return_inverse=True)
    counts = np.zeros((session.max() + 1, len(edges), bins))
    for f, name in enumerate(feature_names(features)):
        inside = np.searchsorted(edges[f], features[name].to_numpy(np.float64)[positions], side="right")
        np.add.at(counts[:, f], (session, inside), 1.0)
    return counts


def stability_index(count_FB: Floats, reference_FB: Floats) -> Floats:
    """PSI (…, F) of counts (…, F, B) against reference counts; bins that neither fills count for nothing."""
    used = (count_FB + reference_FB) > 0
    p, q = (_shares(counts, used) for counts in (count_FB, reference_FB))
    return np.where(used, (p - q) * np.log(np.where(used, p / np.where(used, q, 1.0), 1.0)), 0.0).sum(axis=-1)


def _shares(count_FB: Floats, used: np.ndarray) -> Floats:
    filled = np.where(used, count_FB + HALF, 0.0)
    return filled / filled.sum(axis=-1, keepdims=True)


def drift_limits(count_SFB: Floats, sessions: int, rate: float) -> Limits:
    """Upper limits (F,) of PSI over ``sessions`` sessions, from all stretches of training of that length.

    ValueError when training is shorter than three such stretches.
    """
    if len(count_SFB) < 3 * sessions:
        raise ValueError(
            f"expected at least {3 * sessions} training sessions for limits over {sessions}, found {len(count_SFB)}: "
            "lower monitor.sessions"
        )
    log_RF = np.log(stretch_indices(count_SFB, sessions))
    blocks = len(count_SFB) / sessions
    limits = joint_limits(log_RF, log_RF.mean(axis=0), rate, +1, blocks, np.sqrt(1 + 1 / blocks), pooled=True)
    return Limits(np.full(len(limits.high_K), -np.inf), np.exp(limits.high_K))


def stretch_indices(count_SFB: Floats, sessions: int) -> Floats:
    """PSI (R, F) of every stretch of consecutive training sessions against the rest of training."""
    running = np.concatenate([np.zeros((1, *count_SFB.shape[1:])), np.cumsum(count_SFB, axis=0)])
    inside = running[sessions:] - running[:-sessions]
    return stability_index(inside, running[-1] - inside)

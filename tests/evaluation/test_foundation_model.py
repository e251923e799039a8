"""The row of a foundation model: what it must not know, and that its scale follows the market."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.baselines.volatility import Fracast
from nqcast.evaluation.frames import targets_at

Market = Callable[..., pd.DataFrame]


def test_without_its_package_the_row_says_how_to_get_it(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "fracast", None)
    with pytest.raises(ImportError, match=r"pip install 'nqcast\[foundation\]'"):
        make_baseline("fracast", LEVELS, tuple(HORIZONS)).fit(market(3), np.arange(500))


@pytest.mark.slow
def test_it_sees_nothing_after_the_anchor_and_beats_constants(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fracast", reason="fracast is in the extra 'foundation'")
    monkeypatch.setattr(Fracast, "fitted_on", 60)
    features = market(40)
    train, anchors = np.arange(2760, 276 * 30), np.arange(276 * 31, 276 * 38, 29)
    changed = features.copy()
    later = changed.index > anchors[-1]
    for column in ("realized_variance", *(f"target_{h}" for h in HORIZONS)):
        changed.loc[later, column] = 3 * changed.loc[later, column].to_numpy()[::-1]
    first, again = (
        make_baseline("fracast", LEVELS, tuple(HORIZONS)).fit(frame, train).predict(frame, anchors)
        for frame in (features, changed)
    )
    assert (first == again).all()
    assert metrics.crossing_rate(first) == 0
    targets = targets_at(features, anchors, tuple(HORIZONS))
    constants = make_baseline("constants", LEVELS, tuple(HORIZONS)).fit(features, train).predict(features, anchors)
    own, other = (metrics.mean_pinball(q, targets, LEVELS) for q in (first, constants))
    assert (own < other)[:3].all()

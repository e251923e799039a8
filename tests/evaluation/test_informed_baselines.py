"""Baselines with the network's own inputs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, LEVELS, TARGETS
from nqcast.data.har import laplace_objective
from nqcast.evaluation.baselines import make_baseline
from nqcast.evaluation.baselines.informed import _fisher

Market = Callable[..., pd.DataFrame]


def test_fisher_scoring_ends_where_the_likelihood_has_no_slope() -> None:
    rng = np.random.default_rng(0)
    x = np.column_stack([np.ones(4000), rng.normal(size=(4000, 5))])
    ratio = np.exp(x @ rng.normal(scale=0.3, size=6)) * rng.gamma(2.0, 0.5, 4000)
    beta = _fisher(x, ratio, ridge=1e-3)
    value, slope = laplace_objective(beta, x, np.zeros(4000), ratio, 1e-3)
    np.testing.assert_allclose(slope, 0.0, atol=1e-4)
    assert value < laplace_objective(beta + 0.05, x, np.zeros(4000), ratio, 1e-3)[0]


def test_rolling_constants_are_the_quantiles_of_the_sessions_before(market: Market) -> None:
    features = market(95)
    anchor = np.array([276 * 90 + 7])
    before = features.iloc[276 * 10 : 276 * 90]
    found = (
        make_baseline("rolling_constants", LEVELS, tuple(HORIZONS))
        .fit(features, np.arange(5000))
        .predict(features, anchor)
    )
    for h, name in enumerate(TARGETS):
        assert found[0, h] == pytest.approx(np.nanquantile(before[name], LEVELS), rel=1e-9)


def test_a_seasonal_har_by_slot_is_widened_by_the_shrunk_mean_size_of_its_slot_in_train(market: Market) -> None:
    """Against a closed form, in a market whose returns from one slot are thrice as large; later ones say nothing."""
    features, train, later = market(80), np.arange(1000, 276 * 60), np.arange(276 * 61, 276 * 80 - 60)
    slot = features["bar_in_day"].to_numpy()
    for name in TARGETS:
        features[name] *= np.where(slot == 100, 3.0, 1.0)
    plain, by_slot = (make_baseline(name, LEVELS, tuple(HORIZONS)).fit(features, train)
                      for name in ("seasonal_har", "seasonal_har_by_slot"))  # fmt: skip
    other = features.assign(**{name: 7.0 * features[name].where(features.index > train[-1], 1 / 7) for name in TARGETS})
    found = by_slot.predict(other, later)
    scale_NH = plain._scale.transform(features)
    for h, name in enumerate(TARGETS):
        unit = pd.Series(features[name].to_numpy() / scale_NH[:, h]).iloc[train].dropna()
        of_slot = unit.abs().groupby(slot[unit.index])
        factor = ((of_slot.sum() + 150.0) / (of_slot.count() + 150.0)).reindex(range(288), fill_value=1.0).to_numpy()
        assert factor[100] > 1.3 * factor[101]
        shape = np.quantile(unit / factor[slot[unit.index]], LEVELS)
        expected = np.outer(scale_NH[later, h] * factor[slot[later]], shape)
        np.testing.assert_allclose(found[:, h], expected, rtol=1e-9)


def test_a_seasonal_har_that_is_told_widens_where_an_announcement_lies_ahead(market: Market) -> None:
    """Every release of this market's months moves it four times as much; untold, no horizon is wider for it."""
    from nqcast.data.announcements import announcements_ahead

    features = market(120, seed=3)
    ahead = announcements_ahead(features, ("fomc", "employment", "cpi")).reshape(len(features), 3, 5).any(axis=1)
    loud = features.assign(**{name: features[name] * np.where(ahead[:, h], 4.0, 1.0) for h, name in enumerate(TARGETS)})
    loud["realized_variance"] *= np.where(np.roll(ahead[:, 0], 3), 16.0, 1.0)
    told, untold = (
        make_baseline(name, LEVELS, tuple(HORIZONS))
        .fit(loud, np.arange(1000, 33_000))
        .predict(loud, np.arange(1000, 33_000))
        for name in ("seasonal_har_told", "seasonal_har")
    )
    wider = (told[:, 0, -1] - told[:, 0, 0]) / (untold[:, 0, -1] - untold[:, 0, 0])
    held = ahead[1000:33_000, 0]
    assert wider[held].mean() > 1.5 * wider[~held].mean()

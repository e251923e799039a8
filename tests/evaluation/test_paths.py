"""Joint paths: margins are the quantiles, path maxima cover those of the simulated market's own law."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.constants import HORIZONS, LEVELS, level_name
from nqcast.evaluation.paths import PathCopula
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.true_quantiles import TrueQuantiles

NAMES = [level_name(tau) for tau in LEVELS]
MINUTES = np.array(list(HORIZONS.values()))


def walk(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Quantiles, outcomes and scale of Gaussian random walks whose volatility differs from anchor to anchor."""
    rng = np.random.default_rng(seed)
    scale_NH = np.exp(rng.normal(0, 0.3, (n, 1))) * 1e-3 * np.sqrt(MINUTES)
    step = np.sqrt(np.diff(MINUTES, prepend=0)) * rng.normal(size=(n, len(MINUTES)))
    targets = scale_NH[:, :1] / np.sqrt(MINUTES[0]) * np.cumsum(step, axis=1)
    return scale_NH[..., None] * stats.norm.ppf(LEVELS), targets, scale_NH


@pytest.fixture(scope="module")
def copula() -> PathCopula:
    return PathCopula(LEVELS, tuple(HORIZONS)).fit(*walk(4000, 1))


def test_margins_are_the_quantiles_and_the_tails_go_on(copula: PathCopula) -> None:
    quantiles, _, scale = walk(1, 2)
    drawn = copula.draw(quantiles[0], scale[0], 4000)
    np.testing.assert_allclose(
        np.quantile(drawn, LEVELS, axis=0).T, quantiles[0], rtol=5e-3, atol=2e-2 * scale[0].min()
    )
    far = np.quantile(drawn, [0.005, 0.995], axis=0) / scale[0]
    np.testing.assert_allclose(far, np.tile(stats.norm.ppf([[0.005], [0.995]]), 5), atol=0.35)


def test_ranks_and_values_are_inverse_to_each_other_far_into_both_tails(copula: PathCopula) -> None:
    quantiles, _, scale = walk(1, 3)
    rank = np.repeat(np.array([1e-4, 0.01, 0.05, 0.3, 0.5, 0.93, 0.99, 1 - 1e-4])[:, None], 5, axis=1)
    values = copula.values(rank, quantiles[0], scale[0])
    many = np.repeat(quantiles, len(rank), axis=0), values, np.repeat(scale, len(rank), axis=0)
    np.testing.assert_allclose(copula.ranks(*many), rank, rtol=1e-9)


def test_dependence_is_that_of_a_random_walk(copula: PathCopula) -> None:
    quantiles, _, scale = walk(1, 4)
    drawn = copula.draw(quantiles[0], scale[0], 4000)
    wanted = np.sqrt(np.minimum.outer(MINUTES, MINUTES) / np.maximum.outer(MINUTES, MINUTES))
    np.testing.assert_allclose(np.corrcoef(drawn.T), wanted, atol=0.08)


def test_a_state_draws_the_same_and_a_horizon_after_the_close_has_no_path(copula: PathCopula) -> None:
    quantiles, _, scale = walk(1, 5)
    again = PathCopula.from_state(copula.state())
    drawn, other = (each.draw(quantiles[0], scale[0], 200) for each in (copula, again))
    np.testing.assert_array_equal(drawn, other)
    cut = quantiles[0].copy()
    cut[3:] = np.nan
    drawn = again.draw(cut, scale[0], 100)
    assert np.isfinite(drawn[:, :3]).all() and np.isnan(drawn[:, 3:]).all()


def test_too_few_whole_outcomes_are_refused() -> None:
    quantiles, targets, scale = walk(60, 6)
    targets[20:, -1] = np.nan
    with pytest.raises(ValueError, match=r"50 anchors with an outcome at every horizon.*found 20"):
        PathCopula(LEVELS, tuple(HORIZONS)).fit(quantiles, targets, scale)


@pytest.fixture(scope="module")
def market() -> tuple[TrueQuantiles, pd.DatetimeIndex, np.ndarray, np.ndarray]:
    """A simulated market, anchors at any hour, their true quantiles (A, H, Q), and true paths (A, H, paths)."""
    law = TrueQuantiles(SimulationConfig(seed=5, sessions=60))
    grid = law.path.grid
    whole = grid.start[:-1][np.diff(grid.start) >= 1300]
    rows = np.concatenate([np.arange(start, start + 900, 5) for start in whole])
    ts = pd.DatetimeIndex(np.sort(np.random.default_rng(0).choice(grid.ts[rows], 900, replace=False)), tz="UTC")
    table = law.quantiles_at(ts, LEVELS, paths=512)
    quantiles = table[NAMES].to_numpy().reshape(len(ts), len(HORIZONS), len(LEVELS))
    return law, ts, quantiles, law.sample(law.anchors(ts), 256, seed=77)


@pytest.mark.slow
def test_path_maxima_and_minima_cover_those_of_the_markets_law_within_two_points(
    market: tuple[TrueQuantiles, pd.DatetimeIndex, np.ndarray, np.ndarray],
) -> None:
    _, ts, quantiles, true = market
    scale = (quantiles[..., -1] - quantiles[..., 0]) / 3.3
    order = np.random.default_rng(1).permutation(len(ts))
    fitted, judged = order[:600], order[600:]
    outcomes = np.concatenate([true[fitted][:, :, k] for k in range(8)])
    copula = PathCopula(LEVELS, tuple(HORIZONS)).fit(
        np.tile(quantiles[fitted], (8, 1, 1)), outcomes, np.tile(scale[fitted], (8, 1))
    )
    low, high = [], []
    apart = []
    for a in judged:
        drawn = copula.draw(quantiles[a], scale[a], 1000, seed=int(a))
        high.append([np.mean(true[a].max(axis=0) <= x) for x in np.quantile(drawn.max(axis=1), LEVELS)])
        low.append([np.mean(true[a].min(axis=0) <= x) for x in np.quantile(drawn.min(axis=1), LEVELS)])
        shuffled = np.stack([np.random.default_rng(int(a) + h).permutation(drawn[:, h]) for h in range(5)], axis=1)
        apart.append([np.mean(true[a].max(axis=0) <= x) for x in np.quantile(shuffled.max(axis=1), LEVELS)])
    for shares in (high, low):
        np.testing.assert_allclose(np.mean(shares, axis=0), LEVELS, atol=0.02)
    assert np.abs(np.mean(apart, axis=0) - LEVELS).max() > 0.1, "independent horizons would be seen"

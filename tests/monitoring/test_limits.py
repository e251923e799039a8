"""Limits that are kept together: crossed at the rate that is asked for, however the figures hang together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from nqcast.monitoring.checks import Limits, joint_limits, session_draws, student


@pytest.mark.parametrize("together", [0.0, 0.6, 0.99])
@pytest.mark.parametrize("side", [-1, 0, 1])
def test_any_of_many_figures_crosses_at_the_rate_that_is_asked_for(together: float, side: int) -> None:
    rng = np.random.default_rng(0)

    def draw(n: int) -> np.ndarray:
        shared = np.sqrt(together) * rng.normal(size=(n, 1))
        return 3.0 + np.arange(1, 21) * (shared + np.sqrt(1 - together) * rng.normal(size=(n, 20)))

    limits = joint_limits(draw(20_000), np.full(20, 3.0), 0.05, side, blocks=1e6)
    crossed = np.mean([limits.crossed(row).any() for row in draw(4000)])
    assert crossed == pytest.approx(0.05, abs=0.012)
    assert np.isinf(limits.low_K).all() == (side == 1)
    assert np.isinf(limits.high_K).all() == (side == -1)


def test_few_blocks_widen_the_limits_as_students_law_does() -> None:
    assert student(stats.norm.isf(0.01), 11) == pytest.approx(stats.t.isf(0.01, 10))
    draws = np.random.default_rng(1).normal(size=(5000, 3))
    few, many = (joint_limits(draws, np.zeros(3), 0.05, 1, blocks=b).high_K for b in (8, 1e6))
    assert (few > 1.2 * many).all()
    wide = joint_limits(draws, np.zeros(3), 0.05, 1, blocks=1e6, spread=1.5).high_K
    assert wide == pytest.approx(1.5 * many)


def test_an_undefined_figure_crosses_nothing() -> None:
    limits = Limits(np.array([-1.0, -1.0, -np.inf]), np.array([1.0, np.inf, 1.0]))
    assert limits.crossed(np.array([np.nan, 5.0, -5.0])).tolist() == [False, False, False]
    assert limits.crossed(np.array([1.1, -1.1, 1.1])).tolist() == [True, True, True]


def test_drawn_sessions_come_in_blocks_and_as_many_as_are_judged() -> None:
    drawn = session_draws(30, 70, 8.0, 400, np.random.default_rng(0))
    assert drawn.shape == (400, 70)
    assert (drawn.min(), drawn.max()) == (0, 29)
    follows = ((drawn[:, 1:30] - drawn[:, :29]) % 30 == 1).mean()
    assert follows == pytest.approx(1 - 1 / 8, abs=0.02)

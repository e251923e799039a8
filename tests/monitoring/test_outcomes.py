"""Coverage and skill: limits from validation against outcomes whose law is known, and rolling sums by hand."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from nqcast.evaluation import metrics
from nqcast.monitoring.checks import Outcomes, coverage_limits, rolling, session_draws, skill_limits

LEVELS, PER_SESSION, VALIDATION, NEW = (0.1, 0.5, 0.9), 40, 80, 30
NORMAL = stats.norm.ppf(LEVELS)


def outcomes(
    rng: np.random.Generator, sessions: int, width: float = 1.0, shift: float = 0.0, noise: float = 0.0
) -> Outcomes:
    """Sessions of overlapping outcomes and of louder and calmer days; the forecast knows the day, the reference not."""
    loud = np.exp(0.4 * rng.normal(size=(sessions, 1, 1)))
    shocks = rng.normal(size=(sessions, PER_SESSION + 7, 2))
    overlapping = np.stack([shocks[:, k : k + PER_SESSION] for k in range(8)]).sum(axis=0) / np.sqrt(8)
    targets = (loud * overlapping).reshape(-1, 2)
    scale = np.repeat(loud, PER_SESSION, axis=1).reshape(-1, 1) * np.exp(noise * rng.normal(size=(len(targets), 2)))
    reference = np.broadcast_to(1.1 * NORMAL, (len(targets), 2, 3))
    session = pd.Series(np.repeat(pd.date_range("2016-01-04", periods=sessions), PER_SESSION))
    targets[rng.random(targets.shape) < 0.05] = np.nan
    quantiles = scale[:, :, None] * (width * NORMAL + shift)
    return Outcomes.of(session, targets, quantiles, {"constants": reference}, LEVELS)


def alarms(reference: Outcomes, new: Outcomes, rate: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    drawn = session_draws(VALIDATION, NEW, 4.0, 400, rng)
    return (
        coverage_limits(reference, drawn, rate, VALIDATION / 4).crossed(new.coverage_error_K),
        skill_limits(reference, drawn, rate, VALIDATION / 4).crossed(new.skill_K),
    )


def test_session_sums_give_coverage_and_skill_of_the_oracle() -> None:
    rng = np.random.default_rng(0)
    session = pd.Series(np.repeat(pd.date_range("2016-01-04", periods=6), 50))
    targets = rng.normal(size=(300, 2))
    targets[:20, 1] = np.nan
    quantiles, constant = np.sort(rng.normal(size=(300, 2, 3))), np.broadcast_to(NORMAL, (300, 2, 3))
    found = Outcomes.of(session, targets, quantiles, {"constants": constant}, LEVELS)
    coverage = metrics.coverage_by_level(quantiles, targets, LEVELS) - np.asarray(LEVELS)
    assert found.coverage_error_K == pytest.approx(coverage.ravel())
    skill = metrics.skill(*(metrics.mean_pinball(q, targets, LEVELS) for q in (quantiles, constant)))
    assert found.skill_K == pytest.approx(skill)
    dates, rolled_coverage, rolled_skill = rolling(found, 2)
    assert len(dates) == len(rolled_coverage) == 5
    last = slice(200, 300)
    part = metrics.skill(*(metrics.mean_pinball(q[last], targets[last], LEVELS) for q in (quantiles, constant)))
    assert rolled_skill[-1] == pytest.approx(part) == found.newest(2).skill_K
    assert rolled_coverage[-1] == pytest.approx(found.newest(2).coverage_error_K)


@pytest.mark.slow
def test_outcomes_of_the_same_law_cross_at_about_the_rate() -> None:
    found = np.array(
        [
            [flags.any() for flags in alarms(outcomes(rng, VALIDATION), outcomes(rng, NEW), 0.1, rng)]
            for rng in map(np.random.default_rng, range(150))
        ]
    )
    for share in found.mean(axis=0):
        assert 0.03 <= share <= 0.19  # ± 3.5 standard errors of 150 runs


@pytest.mark.parametrize(
    ("changed", "coverage"),
    [
        ({"width": 0.6}, [True, False, True]),  # too narrow: both tails
        ({"shift": 0.8}, [True, True, True]),
        ({"noise": 0.9}, [False, False, False]),  # a scale that wanders: covers, and is worth less
    ],
)
def test_what_is_miscalibrated_or_worth_less_is_named(changed: dict, coverage: list[bool]) -> None:
    rng = np.random.default_rng(5)
    by_level, by_reference = alarms(outcomes(rng, VALIDATION), outcomes(rng, NEW, **changed), 0.02, rng)
    assert by_level.reshape(2, 3).tolist() == [coverage, coverage]
    assert by_reference.all()

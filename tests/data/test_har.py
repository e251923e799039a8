"""The Laplace fit and the average that a halt freezes: known coefficients come back, gradients are right."""

import numpy as np
import pandas as pd
import pytest
from scipy.optimize import check_grad

from nqcast.data.har import fit_laplace, frozen_ewma, laplace_objective


def laplace_sample(n: int = 40_000) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = np.column_stack([np.ones(n), rng.normal(size=(n, 2))])
    offset = rng.normal(size=n) - 8
    beta = np.array([0.4, 0.7, -0.3])
    return x, offset, rng.laplace(size=n) * np.exp(offset + x @ beta), beta


def test_the_fit_recovers_the_coefficients_of_a_laplace_law():
    x, offset, y, beta = laplace_sample()
    np.testing.assert_allclose(fit_laplace(x, offset, y, 0.0), beta, atol=0.02)


def test_the_gradient_equals_finite_differences():
    x, offset, y, _ = laplace_sample(500)

    def value(beta: np.ndarray) -> float:
        return laplace_objective(beta, x, offset, np.abs(y), 0.3)[0]

    def gradient(beta: np.ndarray) -> np.ndarray:
        return laplace_objective(beta, x, offset, np.abs(y), 0.3)[1]

    for seed in range(3):
        assert check_grad(value, gradient, np.random.default_rng(seed).normal(size=3)) < 1e-5


def test_the_ridge_shrinks_all_but_the_intercept():
    x, offset, y, _ = laplace_sample()
    shrunk = fit_laplace(x, offset, y, 1e4)
    assert np.abs(shrunk[1:]).max() < 1e-3
    assert shrunk[0] == pytest.approx(np.log(np.mean(np.abs(y) * np.exp(-offset))), abs=0.01)


def test_returns_that_are_all_zero_are_refused():
    with pytest.raises(ValueError, match="not all zero"):
        fit_laplace(np.ones((10, 1)), np.zeros(10), np.zeros(10), 0.0)


def test_the_average_is_that_of_pandas_over_the_active_rows_and_rests_on_the_others():
    rng = np.random.default_rng(0)
    values, active = rng.exponential(size=500), rng.random(500) > 0.3
    series = pd.Series(np.concatenate([[1.0], values[active]])).ewm(halflife=7, adjust=False).mean()
    average = frozen_ewma(values, active, 7)
    np.testing.assert_allclose(average[active], series[1:], rtol=1e-12)
    resting = ~active
    resting[0] = False
    np.testing.assert_array_equal(average[resting], average[np.flatnonzero(resting) - 1])

"""Parts of the heterogeneous autoregression: exponential averages that a halt freezes, and the Laplace fit."""

import numpy as np
from scipy.optimize import minimize
from scipy.signal import lfilter


def frozen_ewma(values_N: np.ndarray, active_N: np.ndarray, half_life: float) -> np.ndarray:
    """Exponential average (N,) over the active rows, started at 1; other rows keep the value before them."""
    decay = 0.5 ** (1.0 / half_life)
    averaged = lfilter([1.0 - decay], [1.0, -decay], values_N[active_N], zi=[decay])[0]
    return np.concatenate([[1.0], averaged])[np.cumsum(active_N)]


def laplace_objective(
    beta_K: np.ndarray, x_NK: np.ndarray, offset_N: np.ndarray, size_N: np.ndarray, ridge: float
) -> tuple[float, np.ndarray]:
    """Mean of log s + |y|/s with log s = offset + x·β, plus ridge·Σβ² (intercept, the first, free); gradient."""
    log_s_N = offset_N + x_NK @ beta_K
    ratio_N = size_N * np.exp(-log_s_N)
    penalised_K = np.concatenate([[0.0], beta_K[1:]])
    value = float(np.mean(log_s_N) + np.mean(ratio_N) + ridge * penalised_K @ penalised_K)
    return value, (1.0 - ratio_N) @ x_NK / len(size_N) + 2.0 * ridge * penalised_K


def fit_laplace(x_NK: np.ndarray, offset_N: np.ndarray, y_N: np.ndarray, ridge: float) -> np.ndarray:
    """Coefficients (K,) of the log scale by Laplace quasi-likelihood; column 0 of x is the intercept.

    Raises:
        ValueError: the returns are all zero, or the minimiser fails.
    """
    size_N = np.abs(y_N)
    start_K = np.zeros(x_NK.shape[1])
    level = float(np.mean(size_N * np.exp(-offset_N)))
    if not level > 0:
        raise ValueError("a scale needs returns that are not all zero; found only zeros: check the training bars")
    start_K[0] = np.log(level)
    result = minimize(
        laplace_objective, start_K, args=(x_NK, offset_N, size_N, ridge), jac=True, method="L-BFGS-B",
        options={"maxiter": 500, "ftol": 1e-12, "gtol": 1e-8},
    )  # fmt: skip
    if not np.isfinite(result.x).all():
        raise ValueError(
            f"the scale's fit must be finite; found {result.x}: check the training bars ({result.message})"
        )
    return result.x

"""A small market whose volatility is known: what several tests of this folder are made on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import FEATURES, HORIZONS

Market = Callable[..., pd.DataFrame]


def day_night_market(sessions: int = 60, seed: int = 0) -> pd.DataFrame:
    """Features that the scale reads: a loud day, a quiet night, and volatility that comes in waves."""
    rng = np.random.default_rng(seed)
    n = 276 * sessions
    slot = (np.arange(n) % 276 + 204) % 288
    session = pd.Timestamp("2015-07-01") + pd.to_timedelta(np.arange(n) // 276, unit="D")
    shock = np.zeros(n)
    for t in range(1, n):
        shock[t] = 0.99 * shock[t - 1] + 0.07 * rng.normal()
    sigma = 4e-4 * np.where((slot >= 102) & (slot < 180), 2.0, 1.0) * np.exp(shock)
    minutes = sigma[:, None] / np.sqrt(5) * rng.normal(size=(n, 5))
    path = np.cumsum(minutes, axis=1)
    frame = pd.DataFrame({"session": session, "bar_in_day": slot, "day_of_week": (np.arange(n) // 276) % 5})
    frame["session_first"] = np.arange(n) % 276 == 0
    frame = frame.assign(traded=True, halt=False, halts=False, log_return=path[:, -1], sigma=sigma)
    frame["realized_variance"] = (minutes**2).sum(axis=1)
    frame["log_range"] = np.maximum(path.max(axis=1), 0) - np.minimum(path.min(axis=1), 0)
    price = frame["log_return"].groupby(frame["session"]).cumsum()
    for name, bars in zip(HORIZONS, (3, 6, 12, 24, 48), strict=True):
        frame[f"target_{name}"] = price.groupby(frame["session"]).shift(-bars) - price
    ts = session - pd.Timedelta(hours=2) + pd.to_timedelta(5 * (np.arange(n) % 276), unit="min")
    frame["ts"] = pd.Series(ts).dt.tz_localize("UTC").dt.as_unit("ns")
    frame["raw_close"], frame["contract"] = 4800 * np.exp(price), "NQZ5"
    return frame.assign(**{name: rng.normal(size=n) for name in FEATURES if name not in frame})


@pytest.fixture(scope="session")
def market() -> Market:
    """`day_night_market(sessions, seed)`."""
    return day_night_market

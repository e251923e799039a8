"""Bars whose opens and closes are known, as the feature table that a backtest reads, and forecasts to trade on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.data.features import build_features

BARS = 60  # of a session
TICK = 0.25


def bars_of(sessions: int, seed: int = 0, untraded: float = 0.0, drift: float = 0.0) -> pd.DataFrame:
    """A random walk in ticks whose bars open away from the last close; some bars without a trade."""
    rng = np.random.default_rng(seed)
    n = sessions * BARS
    steps = rng.integers(-6, 7, (n, 2)) * TICK + drift
    traded = rng.random(n) >= untraded
    traded[::BARS] = True
    path = 4000 + np.cumsum(np.where(traded[:, None], steps, 0.0).ravel()).reshape(n, 2)
    session = pd.Timestamp("2016-03-01") + pd.to_timedelta(np.arange(n) // BARS, unit="D")
    ts = session + pd.Timedelta(hours=14) + pd.to_timedelta(5 * (np.arange(n) % BARS), unit="min")
    frame = pd.DataFrame({"ts": pd.Series(ts).dt.tz_localize("UTC"), "session": session, "traded": traded})
    frame = frame.assign(open=path[:, 0], close=path[:, 1], raw_close=path[:, 1], halt=False, gap_minutes=0.0)
    frame["high"], frame["low"] = frame[["open", "close"]].max(axis=1), frame[["open", "close"]].min(axis=1)
    frame["realized_variance"], frame["volume"] = 1e-6, np.where(traded, 10, 0)
    return frame.assign(contract="NQH6", unadjusted=False)


def features_of(bars: pd.DataFrame) -> pd.DataFrame:
    """The feature table of these bars."""
    return build_features(bars)


def forecasts_of(features: pd.DataFrame, median_NH: np.ndarray, width: float = 0.005) -> pd.DataFrame:
    """A forecast at every traded bar: the median given per horizon, an 80 % interval of one width."""
    names = ["15m", "30m", "60m", "2h", "4h"][: median_NH.shape[1]]
    rows = np.flatnonzero(features["traded"].to_numpy(bool))
    parts = [
        features.loc[rows, ["ts", "session"]].assign(
            horizon=name, q10=median_NH[rows, h] - width / 2, q50=median_NH[rows, h], q90=median_NH[rows, h] + width / 2
        )
        for h, name in enumerate(names)
    ]
    return pd.concat(parts, ignore_index=True)

"""The simulated NQ market as a vendor would deliver it: raw 1-minute bars per contract, with the usual blemishes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit

from nqcast.constants import MINUTE_NS
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.contracts import Contract, market_sessions
from nqcast.market.simulation.path import (
    BAR_STREAM,
    STRAY_STREAM,
    FrontPath,
    IntArray,
    front_path,
    session_generator,
)
from nqcast.market.simulation.volatility import FloatArray, diurnal_variance, mean_variance_factor

RAW_COLUMNS = ["ts", "open", "high", "low", "close", "volume", "contract"]


def simulate(config: SimulationConfig) -> pd.DataFrame:
    """Raw 1-minute bars: ts (start, UTC), open, high, low, close (index points), volume, contract; by ts, contract.

    Minutes without a trade have no row; two contracts overlap around a roll; some weekend bars belong to no session.
    Deterministic; a market with more sessions starts with the same bars.
    """
    path = front_path(config)
    sessions = market_sessions(config).iloc[: config.sessions]
    bars = _Bars(config, path, sessions)
    frames = [bars.of(position) for position in range(len(path.contracts))]
    frames.append(_stray_bars(config, path, sessions))
    filled = [frame for frame in frames if len(frame)]  # an empty one would turn every column into objects
    raw = pd.concat(filled, ignore_index=True).sort_values(["ts", "contract"], ignore_index=True)
    raw.attrs["source"] = config.source
    return raw[RAW_COLUMNS]


class _Bars:
    """Turns the front contract's path into the bars of each contract."""

    def __init__(self, config: SimulationConfig, path: FrontPath, sessions: pd.DataFrame) -> None:
        self.config, self.path = config, path
        self.session_of = np.repeat(np.arange(config.sessions), np.diff(path.grid.start))
        self.noise = self._noise(sessions["session"])
        diurnal = diurnal_variance(config)
        self.variance = diurnal[path.grid.minute_of_day] * np.exp(path.slow + path.fast)
        self.usual_variance = float(np.mean(diurnal)) * mean_variance_factor(config)
        self.log_ratio = np.cumsum([contract.log_ratio for contract in path.contracts])

    def _noise(self, session: pd.Series) -> dict[str, FloatArray]:
        """Uniform and normal draws per minute (M,) from each session's own stream."""
        start = self.path.grid.start
        uniform, normal = np.empty((3, start[-1])), np.empty((4, start[-1]))
        for row, day in enumerate(session):
            rng = session_generator(self.config, day, BAR_STREAM)
            minutes = slice(start[row], start[row + 1])
            uniform[:, minutes] = rng.random((3, minutes.stop - minutes.start))
            normal[:, minutes] = rng.standard_normal((4, minutes.stop - minutes.start))
        names = ("open", "high", "low"), ("volume", "other_volume", "spread", "range")
        return dict(zip(names[0] + names[1], [*uniform, *normal], strict=True))

    def of(self, position: int) -> pd.DataFrame:
        """Bars of the contract at `position`: the path's prices while it is the front, prices at a spread otherwise."""
        contract, path = self.path.contracts[position], self.path
        listed = path.grid.start[contract.listed]
        rows = listed + np.flatnonzero(path.traded[listed : np.searchsorted(path.grid.ts, contract.last_ns)])
        volume = self._volume(position, rows)
        rows, volume = rows[volume > 0], volume[volume > 0]
        is_front = path.front[rows] == position
        shift = np.exp(self.log_ratio[position] - self.log_ratio[path.front[rows]])
        noise = np.where(is_front, 0.0, self.config.spread_noise_ticks * self.noise["spread"][rows])
        close = np.rint(path.close[rows] * shift + noise).astype(np.int64)
        open_ = np.rint(self._open(rows) * shift + noise).astype(np.int64)
        high, low = self._extremes(rows, open_, close)
        prices = {"open": open_, "high": high, "low": low, "close": close}
        columns: dict[str, Any] = {name: ticks * self.config.tick for name, ticks in prices.items()}
        frame = pd.DataFrame({"ts": pd.to_datetime(path.grid.ts[rows], utc=True), **columns, "volume": volume})
        frame["contract"] = pd.array([contract.code] * len(frame), dtype="string")
        return frame

    def _open(self, rows: IntArray) -> IntArray:
        """First price of the minute in ticks: the price before it, at times a tick off (not where a session opens)."""
        u = self.noise["open"][rows]
        bounce = (u < 0.15).astype(np.int64) - (u > 0.85).astype(np.int64)
        first = np.isin(rows, self.path.grid.start[:-1]) | (np.diff(self.path.front, prepend=0)[rows] != 0)
        return self.path.previous[rows] + np.where(first, 0, bounce)

    def _extremes(self, rows: IntArray, open_: IntArray, close: IntArray) -> tuple[IntArray, IntArray]:
        """Highest and lowest tick of a Brownian bridge from open to close, given the minute's own variance.

        A Student t move is a normal one with a random variance; given the move m, that variance has the mean used here.
        """
        price = self.path.previous[rows].astype(float)
        h = np.maximum(self.variance[rows] * price * price, 1.0)
        move = (close - open_).astype(float)
        df = self.config.degrees_of_freedom
        within = 2.0 * h * (df - 2.0 + move * move / h) / (df + 1.0)
        sigma = self.config.range_noise
        within *= np.exp(sigma * self.noise["range"][rows] - 0.5 * sigma * sigma)
        up, down = (np.sqrt(move * move - within * np.log1p(-self.noise[name][rows])) for name in ("high", "low"))
        middle = 0.5 * (open_ + close)
        high = np.maximum(np.floor(middle + 0.5 * up).astype(np.int64), np.maximum(open_, close))
        low = np.minimum(np.ceil(middle - 0.5 * down).astype(np.int64), np.minimum(open_, close))
        return high, np.maximum(low, 1)

    def _volume(self, position: int, rows: IntArray) -> IntArray:
        """Volume of the contract in the minutes `rows`: the market's, which rises with its variance, times a share."""
        quoted, noise = self.path.contracts, self.noise
        total = self.config.mean_volume * (self.variance[rows] / self.usual_variance) ** 0.75
        total *= np.exp(0.6 * noise["volume"][rows])
        share = self._entered(quoted[position], rows) if position else np.ones(len(rows))
        if position + 1 < len(quoted):
            share *= 1.0 - self._entered(quoted[position + 1], rows)
        other = np.floor(total * share * np.exp(0.5 * noise["other_volume"][rows]))
        is_front = self.path.front[rows] == position
        return np.where(is_front, np.maximum(np.rint(total * share), 1.0), other).astype(np.int64)

    def _entered(self, contract: Contract, rows: IntArray) -> FloatArray:
        """Share of the market's volume that has moved on to `contract` or a later one.

        By volume: logistic in sessions, .5 between the last session in which the old contract traded more and the one
        in which the new one does. Where the old bars end instead, below .3 until they do.
        """
        session = self.session_of[rows] - contract.front_session
        if self.config.roll == "volume":
            return expit(1.2 * (session + 1.5))
        return np.where(self.path.grid.ts[rows] < contract.front_ns, 0.3 * expit(session + 4.0), 1.0)


def _stray_bars(config: SimulationConfig, path: FrontPath, sessions: pd.DataFrame) -> pd.DataFrame:
    """Single weekend bars of a few contracts near the last close, an hour or more from any session."""
    start, parts = path.grid.start, []
    for row in range(1, config.sessions):
        last = start[row] - 1
        hours = (path.grid.ts[start[row]] - path.grid.ts[last]) // (60 * MINUTE_NS)
        if hours < 40:
            continue
        rng = session_generator(config, sessions["session"].iloc[row], STRAY_STREAM)
        count = min(int(rng.poisson(config.stray_bars_per_week)), 8)
        hour = rng.choice(np.arange(2, hours - 2), size=count, replace=False)
        minute = rng.integers(0, 60, count)
        price = (path.close[last] + rng.integers(-4, 5, count)) * config.tick
        frame = pd.DataFrame({"ts": pd.to_datetime(path.grid.ts[last] + (60 * hour + minute) * MINUTE_NS, utc=True)})
        frame[["open", "high", "low", "close"]] = np.repeat(price[:, None], 4, axis=1)
        frame["volume"] = rng.integers(1, 6, count)
        frame["contract"] = pd.array([path.contracts[path.front[last]].code] * count, dtype="string")
        parts.append(frame)
    empty = pd.DataFrame(columns=RAW_COLUMNS)
    return pd.concat(parts, ignore_index=True) if parts else empty.iloc[:0]

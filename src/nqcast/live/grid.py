"""The grid of bars that come in: the past as ingest made it, the session under way anew at every bar."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.forecast.forecaster import Forecaster
from nqcast.market import calendar
from nqcast.market.checks import rows
from nqcast.market.grid import aggregate
from nqcast.market.schema import PRICES, Stamping, check_raw_bars

KEPT_DAYS = 45
"""Days of bars that stay in memory: more than the 20 sessions of the slowest average; long memory asks for more."""
LONG_DAYS = 400


class GrowingGrid:
    """Takes raw bars and gives the grid of all its bars that have ended.

    A session's first bar reads the whole history through ingest, with its checks and rolls; from then on only the
    session under way is put on the grid, of the contract that ingest found at the front. The rows are those that ingest
    of the whole history would make, as long as no check takes rows of this session out.
    """

    def __init__(self, forecaster: Forecaster) -> None:
        self._forecaster, self._config = forecaster, forecaster.ingest
        self._kept = pd.Timedelta(days=LONG_DAYS if forecaster.scale.config.long_memory else KEPT_DAYS)
        self._raw = pd.DataFrame()
        self._past = pd.DataFrame()
        self._front, self._factor = "", 1.0
        self._stamping = Stamping(1)
        self._live: pd.Timestamp | None = None  # the session under way

    def add(self, news: pd.DataFrame) -> None:
        """Take more raw bars."""
        checked = check_raw_bars(news, self._config)
        self._raw = pd.concat([self._raw, checked], ignore_index=True) if len(self._raw) else checked
        newest = self._raw["ts"].max()
        self._raw = self._raw[self._raw["ts"] >= newest - self._kept].reset_index(drop=True)

    @property
    def newest(self) -> pd.Timestamp:
        """The stamp of the newest raw bar."""
        return self._raw["ts"].max()

    def table(self) -> pd.DataFrame | None:
        """The grid up to its last bar that has ended; None before there is one."""
        if len(self._raw) < self._config.min_rows:
            return None
        live = self._session_rows() if len(self._past) else None
        if live is None:
            self._rebuild()
            live = self._session_rows()
        if live is None or not len(live):
            return self._past if len(self._past) else None
        return pd.concat([self._past, live], ignore_index=True)

    def _rebuild(self) -> None:
        whole = self._forecaster.grid(self._raw)
        self._stamping = Stamping.of(self._raw["ts"], self._config.stamps == "end")
        last = whole.iloc[-1]
        self._past = whole[whole["session"] < last["session"]].reset_index(drop=True)
        self._front, self._factor = str(last["contract"]), float(last["close"] / last["raw_close"])
        self._live = last["session"]

    def _session_rows(self) -> pd.DataFrame | None:
        """Grid rows of the session under way; None where another one has begun."""
        recent = self._raw[self._raw["ts"] >= self._raw["ts"].max() - pd.Timedelta(days=3)]
        recent = recent.assign(ts=self._stamping.starts(recent["ts"]))
        newest = recent["ts"].max()
        cut = (newest + pd.Timedelta(minutes=self._stamping.minutes)).floor(self._config.spacing.bar)
        front = self._of_front(recent)
        ended, recent = self._ended(recent.loc[front, "ts"].max(), newest), recent[recent["ts"] < cut]
        sessions = calendar.sessions_around(newest, newest, self._config.session_closes, self._config.instrument)
        position = calendar.assign_sessions(recent["ts"], sessions)
        inside = recent.assign(session_position=position)[position != calendar.OUTSIDE]
        if not len(inside):
            return self._past.iloc[:0]
        if sessions["session"].iloc[int(inside["session_position"].max())] != self._live:
            return None
        mine = inside[inside["session_position"] == inside["session_position"].max()]
        faulty, empty = rows.faults(mine, self._stamping.minutes, self._config.zero_volume)
        mine = mine[~empty].drop(index=faulty.index)
        mine = mine[front[mine.index] & (mine["ts"] < ended)]
        if not len(mine):
            return self._past.iloc[:0]
        mine = mine.sort_values("ts").drop_duplicates("ts")
        joined = mine.assign(code=0, raw_close=mine["close"], unadjusted=False)
        for name in PRICES:
            joined[name] *= self._factor
        grid = aggregate(joined, sessions, [self._front], self._config.spacing)
        if len(self._past) and len(grid):
            gap = (grid["ts"].iloc[0] - self._past["ts"].iloc[-1] - self._config.spacing.bar) / pd.Timedelta(minutes=1)
            grid["gap_minutes"] = np.where(np.arange(len(grid)) == 0, gap, 0.0)
        return grid

    def _of_front(self, bars: pd.DataFrame) -> pd.Series:
        """Which bars (N,) are of the contract at the front: all where none is named as it is."""
        if "contract" in bars and (front := bars["contract"] == self._front).any():
            return front
        return pd.Series(True, bars.index)

    def _ended(self, of_front: pd.Timestamp, newest: pd.Timestamp) -> pd.Timestamp:
        """Where the front's last bar that is over ends, of the newest minute of the front and of any contract.

        The contracts' bars of one minute come one by one, so another's may be there before the front's: a bar is over
        when the front's own last minute of it, or a later one, has come, or another's that began a minute after it.
        """
        minutes = pd.Timedelta(minutes=self._stamping.minutes)
        return max(of_front + minutes, newest - minutes).floor(self._config.spacing.bar)

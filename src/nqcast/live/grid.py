"""The grid of bars that come in: the past as ingest made it, the session under way anew at every bar."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pandas as pd

from nqcast.forecast.forecaster import Forecaster
from nqcast.market import calendar
from nqcast.market.checks import rows, series, stop_or_warn
from nqcast.market.contracts import Contracts, one_product
from nqcast.market.grid import aggregate
from nqcast.market.schema import PRICES, Stamping, check_raw_bars
from nqcast.market.symbols import parse_symbol

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
        self._raw, self._ahead = pd.DataFrame(), pd.DataFrame({"ts": []})
        self._past = pd.DataFrame()
        self._front, self._factor = "", 1.0
        self._stamping = Stamping(1)
        self._live: pd.Timestamp | None = None  # the session under way

    def add(self, news: pd.DataFrame, now: dt.datetime | None = None) -> pd.Timestamp | None:
        """Take more raw bars; one that is there already is taken as it comes anew.

        Bars that have not begun by the clock `now` wait until they have: returns the stamp of the last one that has
        come, where it waits.
        """
        checked = check_raw_bars(news, self._config)
        ahead = checked["ts"].iloc[-1]
        if now is not None:
            checked = pd.concat([self._ahead, checked], ignore_index=True) if len(self._ahead) else checked
            late = checked["ts"] > now + dt.timedelta(minutes=1)
            self._ahead, checked = checked[late], checked[~late]
        if len(self._raw):
            names = [name for name in ("ts", "contract") if name in checked and name in self._raw]
            known = pd.MultiIndex.from_frame(self._raw[names]).isin(pd.MultiIndex.from_frame(checked[names]))
            checked = pd.concat([self._raw[~known], checked], ignore_index=True)
        self._raw = checked
        if "contract" in checked:
            one_product([parse_symbol(str(name)) for name in checked["contract"].dropna().unique()])
        newest = self._raw["ts"].max()
        self._raw = self._raw[self._raw["ts"] >= newest - self._kept].reset_index(drop=True)
        return ahead if (self._ahead["ts"] == ahead).any() else None

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
        mine = self._believed(inside[front[inside.index] & (inside["ts"] < ended)], sessions)
        mine = mine[mine["session_position"] == inside["session_position"].max()]
        if not len(mine):
            return self._past.iloc[:0]
        grid = aggregate(mine, sessions, [self._front], self._config.spacing)
        if len(self._past) and len(grid):
            gap = (grid["ts"].iloc[0] - self._past["ts"].iloc[-1] - self._config.spacing.bar) / pd.Timedelta(minutes=1)
            grid["gap_minutes"] = np.where(np.arange(len(grid)) == 0, gap, 0.0)
        return grid

    def _believed(self, bars: pd.DataFrame, sessions: pd.DataFrame) -> pd.DataFrame:
        """The front's bars of some days, adjusted, without those that ingest would quarantine, as far as these tell."""
        minutes = self._stamping.minutes
        faulty, empty = rows.faults(bars, minutes, self._config.zero_volume)
        sound = bars[~empty].drop(index=faulty.index).sort_values("ts").drop_duplicates("ts")
        joined = sound.assign(code=0, raw_close=sound["close"], unadjusted=False)
        for name in PRICES:
            joined[name] *= self._factor
        suspect = series.suspect_rows(joined, sessions, Contracts((self._front,), False), self._config, minutes)
        kept = joined.drop(index=suspect.index)
        stop_or_warn(series.level_jumps(kept)[0], self._config)
        return kept

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

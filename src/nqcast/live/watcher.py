"""Forecasts as bars come in and outcomes as they fall due, each a line of a file that only grows; a restart goes on."""

from __future__ import annotations

import datetime as dt
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import MINUTE_NS
from nqcast.data.clock import utc_nanoseconds
from nqcast.evaluation import metrics
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.freshness import ForecastRefusedError, check_window, least_minutes, target_times
from nqcast.forecast.predictor import Predictor
from nqcast.horizons import horizon
from nqcast.live.feed import Feed
from nqcast.live.grid import GrowingGrid
from nqcast.market.calendar import assign_sessions, nanoseconds, sessions_around
from nqcast.storage.append_only import append_record, read_records
from nqcast.storage.json_values import Json

log = logging.getLogger(__name__)

FORECASTS, OUTCOMES = "forecasts.jsonl", "outcomes.jsonl"
MISSED = 576
"""Most bars that came in while nobody watched and are forecast afterwards, marked late."""


class Watcher:
    """Polls a feed; every bar of the grid that ends gets one forecast, every horizon that falls due one outcome.

    Args:
        forecaster: what forecasts.
        feed: where bars come from.
        folder: holds forecasts.jsonl and outcomes.jsonl, flushed to the disk line by line. What is in them when the
            watcher starts is done: bars that came in meanwhile are forecast with `late`, outcomes are caught up.
        now: the clock, by which a forecast is late once the bar after its own has ended too.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        feed: Feed,
        folder: Path,
        now: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._now = now
        self.forecaster, self.feed, self.folder = forecaster, feed, folder
        self.grid = GrowingGrid(forecaster)
        self.forecasts: dict[str, Json] = {r["issue_time"]: r for r in read_records(folder / FORECASTS)}
        self.outcomes: dict[tuple[str, str], Json] = {
            (r["issue_time"], r["horizon"]): r for r in read_records(folder / OUTCOMES)
        }
        self._due = [
            (key, name) for key, record in self.forecasts.items() for name in record["quantiles"]
            if (key, name) not in self.outcomes
        ]  # fmt: skip
        self.refused = ""
        self.recent = pd.DataFrame()

    def step(self) -> int:
        """Take what has come in; returns the number of forecasts made."""
        started, news = time.perf_counter(), self.feed.poll()
        if news is None:
            return 0
        now = self._now()
        if ahead := self.grid.add(news, now):  # waits; forecast once the clock is right, marked late
            self.refused = (
                f"expected a clock that is ahead of the bars, found {now:%Y-%m-%d %H:%M} UTC and a bar of "
                f"{ahead:%Y-%m-%d %H:%M} UTC: set the clock, or say the zone of the stamps (ingest.naive_timezone)"
            )
            log.warning("no forecast: %s", self.refused)
            return 0
        bars = self.grid.table()
        if bars is None or len(bars) < self.forecaster.fewest:
            there = 0 if bars is None else len(bars)
            self.refused = f"{there:,} of the {self.forecaster.fewest:,} bars that a forecast needs are there"
            log.warning("no forecast: %s", self.refused)
            return 0
        features = self.forecaster.features(bars)
        self.recent = self.forecaster.recent(features)
        rows = self._new_rows(features, bars)
        for record in self._made(features, rows, started):
            append_record(self.folder / FORECASTS, record)
            self.forecasts[record["issue_time"]] = record
            self._due += [(record["issue_time"], name) for name in record["quantiles"]]
        self._write_outcomes(features)
        return len(rows)

    def _new_rows(self, features: pd.DataFrame, bars: pd.DataFrame) -> np.ndarray:
        """Rows without a forecast yet: the newest bar, and those since the last forecast; none where refused."""
        end = features["ts"] + self.forecaster.spacing.bar
        sessions = sessions_around(features["ts"].iloc[0], features["ts"].iloc[-1], *self._calendar)
        place = assign_sessions(features["ts"], sessions)
        left = nanoseconds(sessions["close"])[np.maximum(place, 0)] - nanoseconds(end)
        usable = features["traded"].to_numpy(bool) & ~features["halt"].to_numpy(bool) & (place >= 0)
        row = np.arange(len(end))
        usable &= (left >= least_minutes(self.forecaster.metadata.horizons)[0] * MINUTE_NS) & (
            row >= self.forecaster.fewest - 1
        )
        last = max(self.forecasts, default="")
        fresh = end > pd.Timestamp(last) if last else row == len(end) - 1
        found = np.flatnonzero(usable & np.asarray(fresh))[-MISSED:]
        self.refused = "" if len(found) and found[-1] == len(end) - 1 else self.refused
        if len(found) and found[-1] == len(end) - 1:
            try:
                check_window(bars, self.forecaster.model.config.context, self.forecaster.config, sessions)
            except ForecastRefusedError as error:
                self.refused = str(error)
                log.warning("no forecast at %s: %s", end.iloc[-1], error)
                return found[:-1]
        return found

    @property
    def _calendar(self) -> tuple[Any, Any]:
        return self.forecaster.ingest.session_closes, self.forecaster.ingest.instrument

    def _made(self, features: pd.DataFrame, rows: np.ndarray, started: float) -> list[Json]:
        """The records of the forecasts at these rows, oldest first."""
        if not len(rows):
            return []
        maker = self.forecaster
        sessions = sessions_around(features["ts"].iloc[rows[0]], features["ts"].iloc[rows[-1]], *self._calendar)
        table, moved = maker.behind(features)
        predictor = Predictor(maker.model, maker.scale, table, 256)
        records = []
        for part in predictor.stream(rows + moved):
            quantiles = part.quantiles_NHQ
            if maker.calibration is not None:
                quantiles = maker.calibration.apply(quantiles, part.scale_NH)
            base = part.scale_NH[..., None] * maker.scale.unit_quantiles_HQ
            bars = table.iloc[part.positions]
            close = sessions["close"].iloc[assign_sessions(bars["ts"], sessions)]
            ends = target_times(bars["ts"], close, maker.metadata.horizons, maker.ingest)
            made = self._now()
            late = (part.positions < len(table) - 1) | (bars["ts"] + 2 * maker.spacing.bar <= made).to_numpy()
            for k, of_bar in enumerate(ends):
                due = dict(zip(maker.metadata.horizons, of_bar, strict=True))
                of_horizon = {"quantiles": quantiles[k], "scale_alone": base[k]}
                records.append(
                    _record(bars.iloc[k], maker.spacing.bar, due, of_horizon, close.iloc[k], bool(late[k]), made)
                )
        records[-1]["seconds"] = round(time.perf_counter() - started, 4)
        return records

    def _write_outcomes(self, features: pd.DataFrame) -> None:
        """Write every outcome that is known now; a target that never came to be (a halt, a roll) is null."""
        bar = self.forecaster.spacing.bar
        stamp, newest = utc_nanoseconds(features["ts"]), features["ts"].iloc[-1] + bar
        waiting = []
        for key, name in self._due:
            issued = pd.Timestamp(key)
            ends = self.forecasts[key].get("target_times", {})  # earlier logs hold horizons by the clock alone
            end = pd.Timestamp(ends[name]) if name in ends else issued + pd.Timedelta(minutes=horizon(name).minutes)
            if end > newest:
                waiting.append((key, name))
                continue
            row = int(np.searchsorted(stamp, (issued - bar).value))
            there = row < len(stamp) and stamp[row] == (issued - bar).value
            value = float(features[f"target_{name}"].iloc[row]) if there else float("nan")
            record = {"issue_time": key, "horizon": name, "log_return": value if np.isfinite(value) else None}
            append_record(self.folder / OUTCOMES, record)
            self.outcomes[key, name] = record
        self._due = waiting

    def scores(self) -> Json:
        """Coverage of every level and skill over the scale alone, by horizon, of all outcomes so far (JSON values)."""
        levels, result = list(self.forecaster.levels), {}
        for name in self.forecaster.metadata.horizons:
            known = [r for (_, h), r in self.outcomes.items() if h == name and r["log_return"] is not None]
            if not known:
                continue
            y_N1 = np.array([[r["log_return"]] for r in known])
            issued = [self.forecasts[r["issue_time"]] for r in known]
            q, base = (np.array([[record[kind][name]] for record in issued]) for kind in ("quantiles", "scale_alone"))
            coverage = metrics.coverage_by_level(q, y_N1, levels)[0]
            loss, reference = (float(metrics.mean_pinball(each, y_N1, levels)[0]) for each in (q, base))
            result[name] = {
                "outcomes": len(known),
                "coverage": {metrics.level_name(tau): float(c) for tau, c in zip(levels, coverage, strict=True)},
                "skill": 1.0 - loss / reference if reference > 0 else None,
            }
        return result


def _record(
    bar: pd.Series,
    lasts: dt.timedelta,
    due: dict[str, pd.Timestamp],
    of_horizon: dict[str, np.ndarray],
    close: pd.Timestamp,
    late: bool,
    made: dt.datetime,
) -> Json:
    """A forecast as a line of the log; horizons by the clock that end after the session are not in it."""
    there = [(h, name) for h, (name, end) in enumerate(due.items()) if pd.notna(end)]
    return {
        "issue_time": (bar["ts"] + lasts).isoformat(),
        "made_at": made.isoformat(),
        "late": late,
        "last_price": float(bar["raw_close"]),
        "contract": str(bar["contract"]),
        "session_close": pd.Timestamp(close).isoformat(),
        "target_times": {name: due[name].isoformat() for _, name in there},
        **{kind: {name: [float(q) for q in q_HQ[h]] for h, name in there} for kind, q_HQ in of_horizon.items()},
    }

"""What looks wrong although every row is a valid bar: repeated bars, another contract's prices, end stamps, units.

Nothing here is proof, so each doubt has a policy: rows are quarantined, the run stops, or the report says so.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.config import EXCHANGE_ZONE, IngestConfig
from nqcast.market.schema import MINUTE_NS, PRICES

STALE = "stale: repeats the bar before"
OTHER_CONTRACT = "another contract's prices: a level apart, thinly traded"

_DAY_NS = 1440 * MINUTE_NS
_MOST_CANDIDATES = 2000
_NEXT_CANDIDATES = 40

Doubt = dict[str, Any]


def suspect_rows(sound: pd.DataFrame, code: np.ndarray, spacing: int, config: IngestConfig) -> pd.Series:
    """Reason to doubt each row (N,), text; None for the others.

    sound: believed bars sorted by ts, then contract code (N,); spacing in minutes.
    """
    reason = np.full(len(sound), None, dtype=object)
    for contract in np.unique(code):
        rows = np.flatnonzero(code == contract)
        bars = sound.iloc[rows]
        reason[rows[stale(bars, config.stale_bars)]] = STALE
        if "volume" in bars:
            reason[rows[other_contract(bars, spacing, config)]] = OTHER_CONTRACT
    return pd.Series(reason, index=sound.index)


def stale(bars: pd.DataFrame, least: int) -> np.ndarray:
    """True (N,) on every bar that repeats the `least` bars before it, equal in every price and in volume.

    Without volume four times as many are needed: a quiet night repeats prices by itself. The first repetitions stay,
    so that no bar is judged by later ones.
    """
    names = [*PRICES, *(("volume",) if "volume" in bars else ())]
    values = bars[names].to_numpy()
    same = np.zeros(len(bars), dtype=bool)
    same[1:] = (values[1:] == values[:-1]).all(axis=1)
    row = np.arange(len(bars))
    repeated = row - np.maximum.accumulate(np.where(same, 0, row))
    return repeated >= least * (1 if "volume" in bars else 4)


def other_contract(bars: pd.DataFrame, spacing: int, config: IngestConfig) -> np.ndarray:
    """True (N,) inside stretches that begin with a jump, end with its reverse and trade thinly in between.

    A jump is a change of the log close beyond `level_jump_multiple` times the median absolute change of its day and
    beyond `level_jump`; thin is below `thin_share` of the volume before and after, each against what is usual at these
    times of day. News jumps too, but not thinly.
    """
    stamp, log_close = nanoseconds(bars["ts"]), np.log(bars["close"].to_numpy())
    change = np.diff(log_close, prepend=log_close[:1])
    typical = _median_of_day(np.abs(change), stamp)
    jumps = np.flatnonzero(np.abs(change) > np.maximum(config.level_jump_multiple * typical, config.level_jump))
    found = np.zeros(len(bars), dtype=bool)
    if len(jumps) > _MOST_CANDIDATES:
        return found
    activity = _Activity(bars, stamp)
    for k, first in enumerate(jumps):
        nearest = jumps[k + 1 : k + 1 + _NEXT_CANDIDATES]
        short = stamp[nearest] - stamp[first] <= config.level_stretch_days * _DAY_NS
        noise = np.maximum(0.1 * abs(change[first]), 6 * typical[first])
        is_back = np.abs(change[first] + change[nearest]) < noise
        for after in nearest[short & is_back & (nearest - first >= config.level_stretch_bars)].tolist():
            if activity.is_thin(int(first), after, config.thin_share):
                found[first:after] = True
                break
    return found


class _Activity:
    """Volume of stretches of rows against what is usual at their times of day."""

    def __init__(self, bars: pd.DataFrame, stamp: np.ndarray) -> None:
        self._traded = np.cumsum(np.append(0.0, bars["volume"]))
        self._usual = np.cumsum(np.append(0.0, _usual_volume(bars, stamp)))

    def is_thin(self, first: int, after: int, share: float) -> bool:
        """Whether rows [first, after) trade less than `share` of the rows on either side, as many and at least 500."""
        n = max(after - first, 500)
        sides = self._ratio(max(first - n, 0), first), self._ratio(after, min(after + n, len(self._usual) - 1))
        return self._ratio(first, after) < share * min(sides)

    def _ratio(self, start: int, stop: int) -> float:
        usual = self._usual[stop] - self._usual[start]
        return float((self._traded[stop] - self._traded[start]) / usual) if usual > 0 else np.inf


def end_stamps(ts: pd.Series, sessions: pd.DataFrame, spacing: int) -> Doubt | None:
    """Stamps that mark the END of a bar: sessions have a bar at their close and none at their open."""
    stamp = np.unique(nanoseconds(ts))
    opens, closes = nanoseconds(sessions["open"]), nanoseconds(sessions["close"])
    inside = np.searchsorted(stamp, closes) - np.searchsorted(stamp, opens) > 0
    if not inside.any():
        return None
    edges = (opens, closes, closes + spacing * MINUTE_NS)
    at_open, at_close, later = (int(np.isin(edge[inside], stamp).sum()) for edge in edges)
    if at_close <= 0.5 * inside.sum() or max(at_open, later) >= 0.5 * inside.sum():  # later: another zone's stamps
        return None
    return _doubt(
        "time stamps of bar ends",
        at_close,
        f"{at_close} of {int(inside.sum())} sessions have a bar stamped at their close, {at_open} one at their open: "
        f"the stamps mark the END of a bar; set ingest.stamps=end (a stamp is then moved {spacing} min back)",
    )


def volume_units(joined: pd.DataFrame, multiple: float) -> list[Doubt]:
    """Changes of the unit of volume: five sessions trade `multiple` times what the five before did, or a part of it."""
    if "volume" not in joined:
        return []
    per_session = joined.groupby("session")["volume"].sum()
    total = per_session.to_numpy()
    doubts, last = [], -10
    for i in range(5, len(total) - 4):
        before, after = np.median(total[i - 5 : i]), np.median(total[i : i + 5])
        ratio = after / before if before > 0 else np.inf
        if i - last > 5 and not 1 / multiple < ratio < multiple:
            steps = np.abs(np.diff(np.log(np.maximum(total[i - 1 : i + 5], 1))))
            day = per_session.index[i + int(np.argmax(steps))].date()
            doubts.append(
                _doubt("volume unit", 1, f"from {day} on the sessions trade {ratio:.3g} times as much as before")
            )
            last = i
    return doubts


def unadjusted_rolls(jumps: list[dict[str, Any]]) -> list[Doubt]:
    """Opening jumps of a file without contracts that lie in the weeks in which contracts change."""
    near = [j for j in jumps if (day := pd.Timestamp(j["session"])).month % 3 == 0 and 5 <= day.day <= 21]
    if not near:
        return []
    listed = ", ".join(f"{jump['session']} ({jump['spread_points']:+g} points)" for jump in near[:5])
    return [_doubt("unadjusted roll", len(near), f"opening jumps in the weeks of a roll: {listed}; see roll_ledger")]


def off_tick(bars: pd.DataFrame, tick: float) -> int:
    """Rows with a price that is no multiple of the tick."""
    ticks = bars[list(PRICES)].to_numpy() / tick
    return int((np.abs(ticks - np.round(ticks)) > 1e-6).any(axis=1).sum())


def off_tick_doubt(count: int, total: int, config: IngestConfig) -> list[Doubt]:
    """A doubt where more than the configured share of the rows is off the tick."""
    if count <= config.max_off_tick_share * total:
        return []
    text = f"{count} of {total} rows hold a price that is no multiple of {config.tick:g}: adjusted prices, or a unit?"
    return [_doubt("off tick", count, text)]


def _doubt(check: str, count: int, detail: str) -> Doubt:
    return {"check": check, "count": count, "detail": detail}


def _median_of_day(value: np.ndarray, stamp: np.ndarray) -> np.ndarray:
    """For each row the median of its UTC day; zeros are left out, as quiet bars say nothing of the noise."""
    day = stamp // _DAY_NS
    series = pd.Series(np.where(value > 0, value, np.nan))
    return series.groupby(day).transform("median").fillna(0.0).to_numpy()


def _usual_volume(bars: pd.DataFrame, stamp: np.ndarray) -> np.ndarray:
    """For each row the median volume of its five minutes of the day in exchange time."""
    slot = (pd.DatetimeIndex(bars["ts"]).tz_convert(EXCHANGE_ZONE).tz_localize(None).asi8 % _DAY_NS) // (5 * MINUTE_NS)
    return bars["volume"].groupby(slot).transform("median").to_numpy()

"""One continuous series from overlapping contracts: front changes by identity, forward ratio adjustment.

The front contract changes at the first session after one in which the next contract (by expiry) traded more, or when
its bars end; it never changes back. From a change on, prices are multiplied by the product of all factors so far,
each the median of old close / new close over common bars before the change, so the past never changes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TypedDict

import numpy as np
import pandas as pd

from nqcast.constants import MINUTE_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.config import IngestConfig
from nqcast.market.contracts import Contracts
from nqcast.market.schema import PRICES
from nqcast.market.symbols import MONTH_CODES

HOUR_NS = 60 * MINUTE_NS
_LEAST_JUMP = 0.0003  # of a log price: less is never asked about
_ROLL_MULTIPLE = 1.5  # of what is usual inside a session
_BARS_BEFORE = 60
_QUARTERLY = "HMUZ"


class RollPlace(TypedDict):
    """Where contracts change: first bar of the new one (ISO 8601, UTC), its trading date, both names, and the rule."""

    ts: str
    session: str
    from_contract: str | None
    to_contract: str | None
    rule: str


class RollFactor(TypedDict):
    """How a change is adjusted: old/new price, from how many common minutes, the spread new - old in points."""

    factor: float
    common_minutes: int
    spread_points: float | None
    spread_width: float
    """How far a tenth and nine tenths of these minutes lie apart, in the log of old/new."""
    adjusted: bool


_NO_FACTOR: RollFactor = {
    "factor": 1.0,
    "common_minutes": 0,
    "spread_points": None,
    "spread_width": 0.0,
    "adjusted": False,
}


class RollEntry(RollPlace, RollFactor):
    """One line of the roll ledger; the last field proves that no return inside a contract changed."""

    cumulative_factor: float
    max_return_change_inside_contract: float


@dataclass(frozen=True)
class Roll:
    """A change of the front contract: at `stamp` (ns, the first bar that may be the new one's), by which rule."""

    stamp: int
    old: int
    new: int
    rule: str


def front_changes(bars: pd.DataFrame, code: np.ndarray, confirmation_minutes: int) -> tuple[int, list[Roll]]:
    """First front contract and the changes after it, in order of time.

    bars: ts, session_position and volume (optional), sorted by ts; code (N,) in order of expiry.
    """
    stamp = nanoseconds(bars["ts"])
    last = np.full(int(code.max()) + 1, np.iinfo(np.int64).min)
    np.maximum.at(last, code, stamp)
    session_start = np.flatnonzero(np.diff(bars["session_position"].to_numpy(), prepend=-1))
    session_end = np.append(session_start[1:], len(bars))
    volume = bars["volume"].to_numpy() if "volume" in bars else None
    first = front = int(code[: session_end[0]].min())
    rolls: list[Roll] = []
    pending: int | None = None
    for begin, stop in zip(session_start, session_end, strict=True):
        if pending is not None:
            rolls.append(Roll(int(stamp[begin]), front, pending, "volume"))
            front = pending
        while (new := _successor(front, last, int(stamp[stop - 1]), confirmation_minutes)) is not None:
            later = begin + np.flatnonzero((code[begin:stop] == new) & (stamp[begin:stop] > last[front]))
            if not len(later):  # the next contract's bars begin in a later session
                break
            rolls.append(Roll(int(stamp[later[0]]), front, new, "end_of_bars"))
            front = new
        pending = _traded_more(front, code[begin:stop], None if volume is None else volume[begin:stop])
    return first, rolls


def _successor(front: int, last: np.ndarray, now: int, confirmation_minutes: int) -> int | None:
    """Next contract by expiry that outlives the front, if the front's bars have ended before `now` (ns)."""
    if last[front] >= now:
        return None
    later = np.flatnonzero(last[front + 1 :] >= last[front] + max(confirmation_minutes, 1) * MINUTE_NS)
    return front + 1 + int(later[0]) if len(later) else None


def _traded_more(front: int, code: np.ndarray, volume: np.ndarray | None) -> int | None:
    """Next contract by expiry with bars in this session, if it traded more than the front did."""
    if volume is None or not (code > front).any():
        return None
    traded = np.bincount(code, weights=volume, minlength=front + 1)
    new = int(code[code > front].min())
    return new if traded[new] > traded[front] else None


def join_contracts(
    bars: pd.DataFrame, contracts: Contracts, config: IngestConfig
) -> tuple[pd.DataFrame, list[RollEntry]]:
    """The continuous series and its roll ledger.

    bars: sorted source bars with session_position and code. Returns their front rows under the same index with prices
    adjusted, and the columns raw_close, unadjusted (the first bar after a change whose factor is unknown).
    """
    if not contracts.known:
        return _without_candidates(bars.assign(raw_close=bars["close"], unadjusted=False), config)
    code = bars["code"].to_numpy()
    first, rolls = front_changes(bars, code, config.end_confirmation_minutes)
    stamp = nanoseconds(bars["ts"])
    factors = [overlap_factor(bars, code, roll, config) for roll in rolls]
    segment = np.searchsorted([roll.stamp for roll in rolls], stamp, side="right")
    front = np.array([first, *(roll.new for roll in rolls)])[segment]
    cumulative = np.cumprod([1.0, *(found["factor"] for found in factors)])
    adjusted_to = np.array([True, *(found["adjusted"] for found in factors)])
    slot = stamp // (config.bar_minutes * MINUTE_NS)
    rows = _without_mixed_slots(np.flatnonzero(code == front), slot, segment, adjusted_to)
    segment = segment[rows]
    unadjusted = (np.diff(segment, prepend=0) > 0) & ~adjusted_to[segment]
    joined = bars if len(rows) == len(bars) else bars.iloc[rows]
    joined = joined.assign(raw_close=joined["close"], unadjusted=unadjusted)
    factor = cumulative[segment]
    for name in PRICES:
        joined[name] = joined[name].to_numpy() * factor
    edges = np.searchsorted(segment, np.arange(1, len(cumulative) + 1))
    ledger: list[RollEntry] = [
        {
            **_entry(joined, int(begin), contracts.names, roll),
            **found,
            "cumulative_factor": float(total),
            "max_return_change_inside_contract": _largest_change(joined.iloc[begin:stop]),
        }
        for roll, found, total, (begin, stop) in zip(rolls, factors, cumulative[1:], pairwise(edges), strict=True)
        if begin < stop
    ]
    return joined, ledger


def overlap_factor(bars: pd.DataFrame, code: np.ndarray, roll: Roll, config: IngestConfig) -> RollFactor:
    """Factor (median old/new close over common bars before the change), their number, spread new - old in points."""
    age = int(config.overlap_max_age_days * 24 * HOUR_NS)
    stamp = nanoseconds(bars["ts"])
    lo, hi = np.searchsorted(stamp, [roll.stamp - age, roll.stamp])
    close = bars["close"].to_numpy()[lo:hi]
    old, new = (np.flatnonzero(code[lo:hi] == contract) for contract in (roll.old, roll.new))
    common, in_old, in_new = np.intersect1d(
        stamp[lo:hi][old], stamp[lo:hi][new], assume_unique=True, return_indices=True
    )
    if not len(common):
        return _NO_FACTOR
    recent = common > common[-1] - int(config.overlap_hours * HOUR_NS)
    old_close, new_close = close[old[in_old[recent]]], close[new[in_new[recent]]]
    return {
        "factor": float(np.median(old_close / new_close)),
        "common_minutes": int(recent.sum()),
        "spread_points": float(np.median(new_close - old_close)),
        "spread_width": spread_width(np.log(old_close / new_close)),
        "adjusted": True,
    }


def spread_width(ratio: np.ndarray) -> float:
    """How far a tenth and nine tenths of the values lie apart."""
    return float(np.diff(np.quantile(ratio, [0.1, 0.9]))[0]) if len(ratio) else 0.0


def _without_candidates(joined: pd.DataFrame, config: IngestConfig) -> tuple[pd.DataFrame, list[RollEntry]]:
    """A series of unknown contracts with the jumps that may be its rolls marked, and the ledger of all jumps.

    Where the vendor has adjusted the series, or a quote never rolls, none is marked.
    """
    ledger = opening_jumps(joined, config.jump_multiple, config.instrument.months)
    if config.continuous == "adjusted" or not config.instrument.months:
        return joined, [{**entry, "rule": "jump"} for entry in ledger]
    rolls = {pd.Timestamp(entry["ts"]) for entry in ledger if entry["rule"] == "unadjusted"}
    return joined.assign(unadjusted=joined["ts"].isin(rolls).to_numpy()), ledger


def opening_jumps(joined: pd.DataFrame, multiple: float, months: str) -> list[RollEntry]:
    """Ledger entries for sessions that open more than `multiple` times the median opening gap away; changes nothing.

    In the weeks in which contracts of these `months` change, the gap between two bars that is farthest beyond what is
    usual there, one a month, is `unadjusted`: it may be the roll. Others where a session opens are a `jump`.
    """
    open_, close = joined["open"].to_numpy(), joined["close"].to_numpy()
    size = np.append(0.0, np.abs(np.log(open_[1:] / close[:-1])))
    opens = np.diff(joined["session_position"].to_numpy(), prepend=joined["session_position"].iloc[:1]) != 0
    if not opens.any():
        return []
    usual = float(np.median(size[opens]))
    rows = np.flatnonzero((size > _LEAST_JUMP) | (opens & (size > multiple * usual)))
    session = joined["session"].iloc[rows]
    limit = np.where(opens[rows], multiple * usual, _ROLL_MULTIPLE * _usual_inside(joined, size, rows))
    beyond = pd.Series(size[rows] / np.maximum(limit, _LEAST_JUMP))
    possible = weeks_of_rolls(session, months) & (beyond > np.where(opens[rows], 0.5, 1.0)).to_numpy()
    farthest = beyond[possible].groupby((session.dt.year * 12 + session.dt.month).to_numpy()[possible]).idxmax()
    candidate = np.isin(np.arange(len(rows)), farthest)
    kept = candidate | (opens[rows] & (size[rows] > multiple * usual))
    return [
        {
            "ts": joined["ts"].iloc[row].isoformat(),
            "session": day.date().isoformat(),
            "from_contract": None,
            "to_contract": None,
            "rule": "unadjusted" if may_be else "jump",
            **_NO_FACTOR,
            "cumulative_factor": 1.0,
            "spread_points": float(open_[row] - close[row - 1]),
            "max_return_change_inside_contract": 0.0,
        }
        for row, day, may_be in zip(rows[kept], session[kept], candidate[kept], strict=True)
    ]


def _usual_inside(joined: pd.DataFrame, gap: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """What a gap (log) before each of the rows is held against: its bar's range, and gaps and ranges of bars before.

    News moves prices inside bars too, and a thin market has gaps everywhere; a roll is a gap alone. After an hour
    without a bar nothing is usual.
    """
    stamp = nanoseconds(joined["ts"])
    spread = np.log(joined["high"].to_numpy() / joined["low"].to_numpy())
    summed = np.append(0.0, np.cumsum(spread + gap))
    first = np.maximum(rows - _BARS_BEFORE, 0)
    before = (summed[rows] - summed[first]) / np.maximum(rows - first, 1)
    return np.where(stamp[rows] - stamp[rows - 1] > HOUR_NS, np.inf, spread[rows] + before)


def weeks_of_rolls(days: pd.Series, months: str) -> np.ndarray:
    """Which days (N,) lie in the weeks in which contracts of these months change.

    Quarterly ones change in their month, others before it begins, since then they are delivered.
    """
    month, day = (getattr(days.dt, part).to_numpy() for part in ("month", "day"))
    found = np.zeros(len(days), dtype=bool)
    if set(_QUARTERLY) <= set(months):
        found |= (month % 3 == 0) & (day >= 5) & (day <= 21)
    if not set(months) <= set(_QUARTERLY):
        found |= np.isin(month % 12, [MONTH_CODES.index(code) for code in months]) & (day >= 10)
    return found


def _entry(joined: pd.DataFrame, row: int, names: tuple[str, ...], roll: Roll) -> RollPlace:
    return {
        "ts": joined["ts"].iloc[row].isoformat(),
        "session": joined["session"].iloc[row].date().isoformat(),
        "from_contract": names[roll.old],
        "to_contract": names[roll.new],
        "rule": roll.rule,
    }


def _largest_change(segment: pd.DataFrame) -> float:
    """Largest absolute change that the adjustment made to a log return inside one contract."""
    adjusted, raw = (np.diff(np.log(segment[name].to_numpy())) for name in ("close", "raw_close"))
    return float(np.abs(adjusted - raw).max(initial=0.0))


def _without_mixed_slots(
    rows: np.ndarray, slot: np.ndarray, segment: np.ndarray, adjusted_to: np.ndarray
) -> np.ndarray:
    """The front's rows without the old contract's minutes in the bar (`slot`) of an unadjusted change.

    The range of such a bar would be no move.
    """
    slot, segment = slot[rows], segment[rows]
    keep = np.ones(len(rows), dtype=bool)
    for row in np.flatnonzero((np.diff(segment, prepend=0) > 0) & ~adjusted_to[segment]):
        keep[np.searchsorted(slot, slot[row]) : row] = False
    return rows[keep]

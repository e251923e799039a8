"""Whether columns mean what their names say: opens follow closes, ranges exist, levels are possible, volume falls too.

Each test compares the file with itself, night by night and day by day, so that a fault of one of them is found as well.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE, MINUTE_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.checks.clock import CASH_OPEN
from nqcast.market.instruments import table
from nqcast.market.schema import PRICES
from nqcast.market.tables import LEVELS, PRODUCTS

_PART = 2_000  # rows
_WIDE = 4  # ticks
_THIN = 1.4  # moves by ranges where trade is thin; of every fifth minute they are 2.2
_SOME_CONTRACTS, _MOST_CONTRACTS = 10, 1e6  # a bar of fewer may be one trade
_TICKS = (500, 50_000_000)  # prices of any index future, metal or currency, in ticks
_STEPS = range(1000, 1, -1)


class _Test(NamedTuple):
    """A value of each pair of neighbours (N - 1,), the pairs that are asked, and the largest sound mean of a part."""

    kind: str
    value: np.ndarray
    asked: np.ndarray
    most: float
    by_rows: bool = False  # a statistic that a night of thin trade is too short for
    errors: float = 1.0  # standard errors of the mean by which it must be larger: a few quotes say nothing


def meaning_doubts(bars: pd.DataFrame, spacing: int, product: str, tick: float) -> list[Doubt]:
    """All doubts about the columns of the contracts in front; bars as joined: sorted by ts, with code and raw_close."""
    if len(bars) < 2:
        return []
    follows = (np.diff(nanoseconds(bars["ts"])) == spacing * MINUTE_NS) & (np.diff(bars["code"].to_numpy()) == 0)
    parts = {True: _row_parts(len(bars) - 1), False: _nights_and_days(bars)}
    found = []
    same = {name: np.diff(bars[name].to_numpy()) == 0 for name in PRICES}
    same["all"] = np.logical_and.reduce(list(same.values()))
    for test in (*_price_tests(bars, follows, same, tick), *_volume_tests(bars, follows, same["all"], product)):
        first = parts[test.by_rows]
        mean, count = _means(test.value, test.asked, first)
        if (odd := mean > test.most).any():
            variance = _means(np.square(test.value, dtype=np.float64), test.asked, first)[0] - mean**2
            odd &= mean - test.errors * np.sqrt(variance / count) > test.most
        if odd.any():
            found.append(as_doubt(test.kind, int(odd.sum()), when=_dates(bars, first, odd, np.isfinite(mean))))
    return [*_levels(bars, product, tick), *found]


def _row_parts(rows: int) -> np.ndarray:
    return np.arange(0, max(rows - _PART // 2, 1), _PART)


def _nights_and_days(bars: pd.DataFrame) -> np.ndarray:
    """The first pair of neighbours of every session, and of its part from 08:30 exchange time on."""
    begin = np.flatnonzero(np.diff(bars["session_position"].to_numpy(), prepend=-1))
    cash_open = (bars["session"].iloc[begin] + pd.Timedelta(minutes=CASH_OPEN)).dt.tz_localize(EXCHANGE_TIMEZONE)
    day = np.searchsorted(nanoseconds(bars["ts"]), nanoseconds(cash_open))
    first = np.unique(np.maximum(np.concatenate([begin, day]) - 1, 0))
    return first[first < len(bars) - 1]


def _levels(bars: pd.DataFrame, product: str, tick: float) -> list[Doubt]:
    """Prices that the product cannot have, and prices that move in steps of ten ticks or more alone."""
    close = bars["raw_close"].to_numpy()
    level = float(np.median(close)) if len(close) else np.nan
    low, high = LEVELS.get(product, (_TICKS[0] * tick, _TICKS[1] * tick))
    usual = _means(close, np.ones(len(close), dtype=bool), _row_parts(len(close)))[0]
    if not ((low <= usual) & (usual <= high)).any() and not low <= level <= high:
        cause = "in units of 1e-9, as Databento writes them (divide them by 1e9)" if level > 1e9 else "in another unit"
        return [as_doubt("price level", len(bars), level=level, product=product, low=low, high=high, cause=cause)]
    return list(_ticks(close[-50_000:], product, tick))[:1]


def _ticks(close: np.ndarray, product: str, tick: float) -> Iterator[Doubt]:
    """Doubts about the newest prices where they move in steps of several ticks, or on another instrument's tick."""
    known = table()[product].tick if product in table() else tick
    moves, count = np.unique(np.round(np.abs(np.diff(close)) / known), return_counts=True)
    count[moves == 0] = 0
    most = max(0.999 * count.sum(), 100)
    possible = _STEPS if product in PRODUCTS else (100,)
    steps = next((each for each in possible if count[moves % each == 0].sum() > most), None)
    if steps is not None and abs(steps * known - tick) > 1e-6 * tick:
        yield as_doubt("price unit/steps", len(close), step=steps * known, steps=steps)
    others = {row.tick for row in table().values() if row.tick > tick / 5}
    tenth = {tick / 10} - {10.0**power for power in range(-9, 9)}  # a decimal more is rounding, not a unit
    for other in sorted(others | tenth, reverse=True):  # the coarsest that fits is what they are rounded to
        on, on_other = (np.mean(np.abs(close / each - np.rint(close / each)) < 1e-6) for each in (tick, other))
        if 0.01 < on < 0.7 and on_other > 0.999:  # none: all are moved by a part of the tick
            name = product if other == known else "…"
            yield as_doubt("price unit/other tick", len(close), other=other, tick=tick, name=name)


def _price_tests(bars: pd.DataFrame, follows: np.ndarray, same: dict[str, np.ndarray], tick: float) -> Iterator[_Test]:
    """Ranges exist and say more than closes; opens follow closes.

    A bar that covers all of its time has a range beyond the move from the close before to its own, and opens where
    that one closed, not where an earlier one did, nor where it closes itself. Of bars wider than most, which hold more
    than a trade or two, this is true in every night; and they seldom share the high or the low of their neighbours.
    """
    open_, high, low, close = (bars[name].to_numpy() for name in PRICES)
    bare = (high == np.maximum(open_, close)) & (low == np.minimum(open_, close))
    known = "volume" in bars
    busy = follows & (bars["volume"].to_numpy() >= _SOME_CONTRACTS)[1:] if known else follows
    yield _Test("bars without a range", bare[1:], busy, 0.98, not known)
    yield _Test("bars without an open", (open_ == close)[1:], busy, 0.9, not known)
    middle = np.abs(open_[1:] - (open_[:-1] + close[:-1]) / 2) < 1e-6 * open_[1:]
    yield _Test("made-up bars", middle, follows & (open_[:-1] != close[:-1]), 0.9)
    spread, most = (high - low)[1:], 1e-3 * close[1:]  # one bad print is not to outweigh a part
    yield _Test("repeated bars", same["all"], follows & (spread > 0), 0.5)
    move = np.abs(np.diff(close))
    beyond = np.minimum(move, most) - _THIN * np.minimum(spread, most)
    yield _Test("parts of bars", beyond, busy & (spread > 0), 0, by_rows=True)
    to_open, own, earlier = (np.abs(open_[1:] - each) for each in (close[:-1], close[1:], np.roll(close, 1)[:-1]))
    relative = spread / close[1:]
    wide = follows & (spread > _WIDE * tick) & (relative > np.median(relative))
    yield _Test("opens do not follow closes", np.minimum(to_open, most) - np.minimum(own, most), wide, 0, errors=2)
    far = to_open > 2 * np.maximum(spread, 4e-4 * close[1:])
    yield _Test("opens do not follow closes/far", far, follows, 0.3)
    nearer = np.minimum(to_open, most) - np.minimum(earlier, most)
    yield _Test("rolling windows", nearer, follows & np.append(False, follows[:-1]), 0, by_rows=True)
    yield _Test("rolling windows", same["high"] | same["low"], wide, 0.7)


def _volume_tests(bars: pd.DataFrame, follows: np.ndarray, again: np.ndarray, product: str) -> Iterator[_Test]:
    """Volume falls as often as it rises, in whole contracts; a bar of some trades repeats none before."""
    if "volume" not in bars:
        return
    volume = bars["volume"].to_numpy()
    change = np.diff(volume)
    yield _Test("volume only rises", (change > 0) - 2.0 * (change < 0), follows, 0.1)
    yield _Test("volume unit/constant", change == 0, follows, 0.98)
    again = again & (change == 0)
    some = follows & (volume >= _SOME_CONTRACTS)[1:] & (bars["high"].to_numpy() > bars["low"].to_numpy())[1:]
    first = again & ~np.append(False, again[:-1])  # a run of them is quarantined as stale
    yield _Test("repeated bars/filled", first, some, 0.01, by_rows=True)
    yield _Test("volume unit/money", (volume > _MOST_CONTRACTS)[1:], follows & (product in PRODUCTS), 0.2)
    yield _Test("volume unit/fractions", (volume % 1 != 0)[1:], follows, 0.01)


def _means(value: np.ndarray, asked: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and number of the values asked in every part, which begins at `first`; NaN where a part has too few."""
    count = np.maximum(np.add.reduceat(asked, first, dtype=np.int64), 1)
    total = np.add.reduceat(np.where(asked, value, 0), first, dtype=np.float64)
    return np.where(count >= 30, total / count, np.nan), count


def _dates(bars: pd.DataFrame, first: np.ndarray, odd: np.ndarray, asked: np.ndarray) -> str:
    """From when to when the odd parts last, where they are not all that are asked."""
    rows = np.flatnonzero(odd)
    last = np.append(first[1:], len(bars) - 1)[rows[-1]]
    begin, end = bars["ts"].iloc[first[rows[0]] + 1], bars["ts"].iloc[last]
    return "" if odd.sum() == asked.sum() else f"from {begin.date()} to {end.date()} "

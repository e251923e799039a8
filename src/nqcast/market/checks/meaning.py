"""Whether columns mean what their names say: opens follow closes, ranges exist, levels are possible, volume falls too.

Each test compares the file with itself, part by part, so that a fault in some months is found as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.instruments import table
from nqcast.market.schema import MINUTE_NS, PRICES
from nqcast.market.tables import LEVELS, PRODUCTS

_PART = 2_000  # rows
_WIDE = 8  # ticks
_MOST_CONTRACTS = 1e6
_TICKS = (500, 50_000_000)  # prices of any index future, metal or currency, in ticks


def meaning_doubts(bars: pd.DataFrame, spacing: int, product: str, tick: float) -> list[Doubt]:
    """All doubts about the columns of the contracts in front; bars as joined: sorted by ts, with code and raw_close."""
    follows = (np.diff(nanoseconds(bars["ts"])) == spacing * MINUTE_NS) & (np.diff(bars["code"].to_numpy()) == 0)
    tests = [*_price_tests(bars, follows, tick), *(_volume_tests(bars, follows, product) if "volume" in bars else ())]
    found = [
        as_doubt(kind, int(odd.sum()), when=_dates(bars, odd))
        for kind, value, most in tests
        if (odd := value > most).any()
    ]
    return [*_levels(bars, product, tick), *found]


def _levels(bars: pd.DataFrame, product: str, tick: float) -> list[Doubt]:
    """Prices that the product cannot have, and prices that move in steps of ten ticks or more alone."""
    close = bars["raw_close"].to_numpy()
    level = float(np.median(close)) if len(close) else np.nan
    low, high = LEVELS.get(product, (_TICKS[0] * tick, _TICKS[1] * tick))
    usual = _parts(close)
    if not ((low <= usual) & (usual <= high)).any() and not low <= level <= high:
        cause = "in units of 1e-9, as Databento writes them (divide them by 1e9)" if level > 1e9 else "in another unit"
        return [as_doubt("price level", len(bars), level=level, product=product, low=low, high=high, cause=cause)]
    return list(_ticks(close[-50_000:], product, tick))[:1]


def _ticks(close: np.ndarray, product: str, tick: float) -> Iterator[Doubt]:
    """Doubts about the newest prices where they move in steps of several ticks, or on another instrument's tick."""
    known = table()[product].tick if product in table() else tick
    moves = np.abs(np.diff(close)) / known
    moves = np.round(moves[moves > 0.5])
    for steps in (100, 10, 4):
        if len(moves) > 100 and (moves % steps == 0).mean() > 0.999:
            yield as_doubt("price unit/steps", len(close), step=steps * known, steps=steps)
    for other in sorted({row.tick for row in table().values() if row.tick > tick / 5}):
        on, on_other = (np.mean(np.abs(close / each - np.rint(close / each)) < 1e-6) for each in (tick, other))
        if on < 0.7 and on_other > 0.999:
            name = product if other == known else "…"
            yield as_doubt("price unit/other tick", len(close), other=other, tick=tick, name=name)


def _price_tests(bars: pd.DataFrame, follows: np.ndarray, tick: float) -> Iterator[tuple[str, np.ndarray, float]]:
    """Ranges exist and say more than closes; opens follow closes: kind, value of each part, largest sound one.

    A bar that covers all of its time has a range beyond the move from the close before to its own, and opens where
    that one closed, not where an earlier one did. Neighbours seldom share the high or the low of a wide bar.
    """
    open_, high, low, close = (bars[name].to_numpy() for name in PRICES)
    bare = (high == np.maximum(open_, close)) & (low == np.minimum(open_, close))
    yield "bars without a range", _parts(bare), 0.98
    yield "bars without an open", _parts(open_ == close), 0.9
    middle = np.abs(open_[1:] - (open_[:-1] + close[:-1]) / 2) < 1e-6 * open_[1:]
    yield "made-up bars", _parts(middle, follows & (open_[:-1] != close[:-1])), 0.9
    same = {name: np.diff(bars[name].to_numpy()) == 0 for name in PRICES}
    yield "repeated bars", _parts(np.logical_and.reduce(list(same.values())), follows), 0.5
    to_open, to_close = np.abs(open_[1:] - close[:-1]), np.abs(close[1:] - open_[:-1])
    yield "opens do not follow closes", _parts(to_open > to_close, follows), 0.5
    wide = to_open > 2 * np.maximum((high - low)[1:], 4e-4 * close[1:])
    yield "opens do not follow closes/far", _parts(wide, follows), 0.3
    spread, most = (high - low)[1:], 1e-3 * close[1:]  # one bad print is not to outweigh a part
    move, earlier = np.abs(np.diff(close)), np.append(0.0, np.abs(open_[2:] - close[:-2]))
    yield "parts of bars", _parts(np.minimum(move, most) - np.minimum(spread, most), follows), 0
    nearer = np.minimum(to_open, most) - np.minimum(earlier, most)
    yield "rolling windows", _parts(nearer, follows & np.append(False, follows[:-1])), 0
    yield "rolling windows", _parts(same["high"] | same["low"], follows & (spread > _WIDE * tick)), 0.7


def _volume_tests(bars: pd.DataFrame, follows: np.ndarray, product: str) -> Iterator[tuple[str, np.ndarray, float]]:
    """Volume falls as often as it rises, in whole contracts: kind, value of each part, largest sound one."""
    volume = bars["volume"].to_numpy()
    falls, rises = (_parts(side, follows) for side in (np.diff(volume) < 0, np.diff(volume) > 0))
    yield "volume only rises", np.where(falls < 0.01, rises, 0), 0.2
    yield "volume unit/constant", _parts(np.diff(volume) == 0, follows), 0.9
    yield "volume unit/money", _parts(volume > _MOST_CONTRACTS) * (product in PRODUCTS), 0.2
    yield "volume unit/fractions", _parts(volume % 1 != 0), 0.01


def _parts(value: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    """Mean of the values, or of the chosen ones, in every part of the file; NaN where a part has under thirty."""
    if not len(value):
        return np.empty(0)
    first = np.arange(0, max(len(value) - _PART // 2, 1), _PART)
    if chosen is None:
        count = np.diff(np.append(first, len(value)))
    else:
        count, value = np.add.reduceat(chosen, first, dtype=np.int64), np.where(chosen, value, 0)
    total = np.add.reduceat(value, first, dtype=np.float64)
    return np.where(count >= 30, total / np.maximum(count, 1), np.nan)


def _dates(bars: pd.DataFrame, parts: np.ndarray) -> str:
    """From when to when the parts last, where they are not all."""
    rows = np.flatnonzero(parts)
    first, last = bars["ts"].iloc[rows[0] * _PART], bars["ts"].iloc[min((rows[-1] + 1) * _PART, len(bars)) - 1]
    return "" if len(rows) == len(parts) else f"from {first.date()} to {last.date()} "

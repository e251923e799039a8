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
_TICKS = (500, 50_000_000)  # prices of any index future, metal or currency, in ticks


def meaning_doubts(bars: pd.DataFrame, spacing: int, product: str, tick: float) -> list[Doubt]:
    """All doubts about the columns of the contracts in front; bars as joined: sorted by ts, with code and raw_close."""
    follows = (np.diff(nanoseconds(bars["ts"])) == spacing * MINUTE_NS) & (np.diff(bars["code"].to_numpy()) == 0)
    tests = [*_price_tests(bars, follows), *(_volume_tests(bars, follows, product) if "volume" in bars else ())]
    found = [as_doubt(name, int(odd.sum()), _dated(bars, odd, text)) for name, odd, text in tests if odd.any()]
    return [*_levels(bars, product, tick), *found]


def _levels(bars: pd.DataFrame, product: str, tick: float) -> list[Doubt]:
    """Prices that the product cannot have, and prices that move in steps of ten ticks or more alone."""
    close = bars["raw_close"].to_numpy()
    level = float(np.median(close)) if len(close) else np.nan
    low, high = LEVELS.get(product, (_TICKS[0] * tick, _TICKS[1] * tick))
    usual = _parts(close)
    if not ((low <= usual) & (usual <= high)).any() and not low <= level <= high:
        cause = "in units of 1e-9, as Databento writes them (divide them by 1e9)" if level > 1e9 else "in another unit"
        text = f"the median close is {level:,.6g}, while {product} trades between {low:g} and {high:g}"
        return [as_doubt("price level", len(bars), f"{text}; prices may be {cause}, or of another instrument=…")]
    doubt = [as_doubt("price unit", len(bars), text) for text in _ticks(close[-50_000:], product, tick)]
    return doubt[:1]


def _ticks(close: np.ndarray, product: str, tick: float) -> Iterator[str]:
    """What is said of the newest prices where they move in steps of several ticks, or on another instrument's tick."""
    known = table()[product].tick if product in table() else tick
    moves = np.abs(np.diff(close)) / known
    moves = np.round(moves[moves > 0.5])
    for steps in (100, 10, 4):
        if len(moves) > 100 and (moves % steps == 0).mean() > 0.999:
            text = f"prices move in steps of {steps * known:g} only, {steps} ticks; they may be {steps} times too large"
            yield f"{text}: divide them, or set ingest.tick and features.tick"
    for other in sorted({row.tick for row in table().values() if row.tick > tick / 5}):
        on, on_other = (np.mean(np.abs(close / each - np.rint(close / each)) < 1e-6) for each in (tick, other))
        if on < 0.7 and on_other > 0.999:
            text = f"prices are multiples of {other:g}, not of {tick:g}, the tick that is set"
            name = product if other == known else "…"
            yield f"{text}; they may be rounded, or another instrument's: set instrument={name}"


def _price_tests(bars: pd.DataFrame, follows: np.ndarray) -> Iterator[tuple[str, np.ndarray, str]]:
    """Ranges exist, say more than open and close; opens follow closes. Name, the parts that fail, and the words."""
    open_, high, low, close = (bars[name].to_numpy() for name in PRICES)
    bare = (high == np.maximum(open_, close)) & (low == np.minimum(open_, close))
    text = "no high or low is beyond open and close; the file may hold closes or single trades, or bars made of them"
    yield "bars without a range", _parts(bare) > 0.98, text
    text = "opens equal closes; the file may have no opens"
    yield "bars without an open", _parts(open_ == close) > 0.9, text
    moved = open_[:-1] != close[:-1]
    middle = np.abs(open_[1:] - (open_[:-1] + close[:-1]) / 2) < 1e-6 * open_[1:]
    text = "opens lie in the middle of the bar before, as those of Heikin-Ashi bars do: bring prices of trades"
    yield "made-up bars", _parts(middle, follows & moved) > 0.9, text
    again = np.logical_and.reduce([np.diff(bars[name].to_numpy()) == 0 for name in PRICES])
    text = "bars repeat the bar before; longer bars may have been written once for each minute"
    yield "repeated bars", _parts(again, follows) > 0.5, text
    to_open, to_close = np.abs(open_[1:] - close[:-1]), np.abs(close[1:] - open_[:-1])
    text = "opens are farther from the close before than closes from the open before; the two may be exchanged"
    yield "opens do not follow closes", _parts(to_open > to_close, follows) > 0.5, text
    wide = to_open > 2 * np.maximum((high - low)[1:], 4e-4 * close[1:])
    text = "opens are farther from the close before than twice the bar's range; the bars may be of two series"
    yield "opens do not follow closes", _parts(wide, follows) > 0.3, text


def _volume_tests(bars: pd.DataFrame, follows: np.ndarray, product: str) -> Iterator[tuple[str, np.ndarray, str]]:
    """Volume falls as often as it rises, in whole contracts."""
    volume = bars["volume"].to_numpy()
    falls, rises = (_parts(side, follows) for side in (np.diff(volume) < 0, np.diff(volume) > 0))
    text = "volume never falls inside a session; it may be summed up since its beginning: bring the volume of each bar"
    yield "volume only rises", (falls < 0.01) & (rises > 0.2), text
    text = "bars have a million contracts and more; volume may be in money: bring contracts"
    yield "volume unit", (_parts(volume) > 1e6) & (product in PRODUCTS), text
    text = "volumes are no whole numbers; they may be lots or millions: multiply them, or set features.volume=false"
    yield "volume unit", _parts(volume % 1 != 0) > 0.01, text


def _parts(value: np.ndarray, chosen: np.ndarray | None = None) -> np.ndarray:
    """Mean of the values, or of the chosen ones, in every part of the file; NaN where a part has under thirty."""
    if not len(value):
        return np.empty(0)
    first = np.arange(0, max(len(value) - _PART // 2, 1), _PART)
    if chosen is None:
        count = np.diff(np.append(first, len(value)))
    else:
        count, value = np.add.reduceat(chosen, first, dtype=np.int64), value & chosen
    total = np.add.reduceat(value, first, dtype=np.float64)
    return np.where(count >= 30, total / np.maximum(count, 1), np.nan)


def _dated(bars: pd.DataFrame, parts: np.ndarray, text: str) -> str:
    """The words with the dates of the parts."""
    rows = np.flatnonzero(parts)
    first, last = bars["ts"].iloc[rows[0] * _PART], bars["ts"].iloc[min((rows[-1] + 1) * _PART, len(bars)) - 1]
    return text if len(rows) == len(parts) else f"from {first.date()} to {last.date()} {text}"

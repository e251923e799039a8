"""Whether columns mean what their names say: opens follow closes, ranges exist, levels are possible, volume falls too.

Each test compares the file with itself, part by part, so that a fault in some months is found as well.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.checks.doubt import Doubt, as_doubt
from nqcast.market.schema import MINUTE_NS, PRICES
from nqcast.market.symbols import LEVELS

_PART = 2_000  # rows
_TICKS = (500, 50_000_000)  # prices of any index future, metal or currency, in ticks


def meaning_doubts(bars: pd.DataFrame, code: np.ndarray, spacing: int, product: str, tick: float) -> list[Doubt]:
    """All doubts about the columns of one contract at a time; bars sorted by ts, then contract code (N,)."""
    stamp = nanoseconds(bars["ts"])
    if (np.diff(code) < 0).any():  # several contracts side by side
        order = np.argsort(code, kind="stable")
        bars, stamp, code = bars.iloc[order], stamp[order], code[order]
    follows = (np.diff(stamp) == spacing * MINUTE_NS) & (np.diff(code) == 0)
    return [
        *_levels(bars, product, tick),
        *_ranges(bars),
        *_opens(bars, follows),
        *(_volumes(bars, follows) if "volume" in bars else []),
    ]


def _levels(bars: pd.DataFrame, product: str, tick: float) -> list[Doubt]:
    """Prices that the product cannot have, and prices that move in steps of ten ticks or more alone."""
    level = float(bars["close"].median())
    low, high = LEVELS.get(product, (_TICKS[0] * tick, _TICKS[1] * tick))
    usual = _parts(bars["close"].to_numpy(), np.ones(len(bars), dtype=bool))
    if not ((low <= usual) & (usual <= high)).any() and not low <= level <= high:
        unit = "; prices in units of 1e-9, as Databento writes them? Divide them by 1e9" if level > 1e9 else ""
        text = f"half the closes lie above {level:,.6g}, and {product} is between {low:g} and {high:g}{unit}"
        return [as_doubt("price level", len(bars), f"{text}: another unit, or another product (instrument=…)?")]
    moves = np.abs(np.diff(bars["close"].to_numpy()[-50_000:])) / tick
    moves = np.round(moves[moves > 0.5])
    for steps in (100, 10):
        if len(moves) > 100 and (moves % steps == 0).mean() > 0.999:
            text = f"prices move in steps of {steps * tick:g}, {steps} ticks: prices times {steps}?"
            return [as_doubt("price unit", len(bars), f"{text} Divide them, or set ingest.tick and features.tick")]
    return []


def _opens(bars: pd.DataFrame, follows: np.ndarray) -> list[Doubt]:
    """Most opens lie nearer to the close before than closes to the open before, and within two ranges of it."""
    open_, high, low, close = (bars[name].to_numpy() for name in PRICES)
    to_open, to_close = np.abs(open_[1:] - close[:-1]), np.abs(close[1:] - open_[:-1])
    turned = _parts(to_open > to_close, follows) > 0.5
    if turned.any():
        text = "opens lie farther from the close before than closes from the open before: open and close exchanged?"
        return [as_doubt("opens do not follow closes", int(turned.sum()), _dated(bars, turned, text))]
    apart = _parts(to_open > 2 * np.maximum((high - low)[1:], 4e-4 * close[1:]), follows) > 0.3
    if apart.any():
        text = "opens lie farther from the close before than two of their ranges: bars of two series?"
        return [as_doubt("opens do not follow closes", int(apart.sum()), _dated(bars, apart, text))]
    return []


def _ranges(bars: pd.DataFrame) -> list[Doubt]:
    """Highs and lows say something beyond open and close."""
    open_, high, low, close = (bars[name].to_numpy() for name in PRICES)
    for text, empty in (
        ("no bar has a range: bars of the close alone, or of single trades?", high == low),
        ("no high or low lies beyond open and close: were they made from them?",
         (high == np.maximum(open_, close)) & (low == np.minimum(open_, close))),
    ):  # fmt: skip
        bare = _parts(empty, np.ones(len(bars), dtype=bool)) > 0.98
        if bare.any():
            return [as_doubt("bars without a range", int(bare.sum()), _dated(bars, bare, text))]
    return []


def _volumes(bars: pd.DataFrame, follows: np.ndarray) -> list[Doubt]:
    """Volume that falls as often as it rises, in whole contracts."""
    volume = bars["volume"].to_numpy()
    falls, rises = (_parts(side, follows) for side in (np.diff(volume) < 0, np.diff(volume) > 0))
    summed = (falls < 0.01) & (rises > 0.2)
    if summed.any():
        text = "volume never falls inside a session: summed up since its beginning? Bring the volume of each bar"
        return [as_doubt("volume only rises", int(summed.sum()), _dated(bars, summed, text))]
    broken = (volume % 1 != 0).mean()
    if broken > 0.01:
        text = f"{broken:.0%} of the volumes are no whole numbers: lots or millions? Multiply them, or do without by"
        return [as_doubt("volume unit", int(broken * len(bars)), f"{text} features.volume=false")]
    return []


def _parts(value: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Mean of the chosen values in every part of the file; NaN where a part has under thirty."""
    first = np.arange(0, max(len(value) - _PART // 2, 1), _PART)
    if not len(value):
        return np.empty(0)
    count = np.add.reduceat(chosen, first, dtype=np.int64)
    total = np.add.reduceat(np.where(chosen, value, 0.0), first)
    return np.where(count >= 30, total / np.maximum(count, 1), np.nan)


def _dated(bars: pd.DataFrame, parts: np.ndarray, text: str) -> str:
    """The words with the dates of the parts."""
    rows = np.flatnonzero(parts)
    first, last = bars["ts"].iloc[rows[0] * _PART], bars["ts"].iloc[min((rows[-1] + 1) * _PART, len(bars)) - 1]
    return text if len(rows) == len(parts) else f"from {first.date()} to {last.date()} {text}"

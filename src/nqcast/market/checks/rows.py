"""Which rows of a raw file can be believed: reasons for quarantine, duplicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.schema import DAY_NS, MINUTE_NS, PRICES
from nqcast.market.symbols import parse_symbol

SPREAD = "calendar spread, not a contract"
COMBINATION = "a symbol that names no contract, in a file of contracts"
OTHER_MONTH = "a contract month that never becomes the front"
NO_FAULT = (SPREAD, COMBINATION, OTHER_MONTH)
"""Reasons that are no fault of the file."""
OUT_OF_SESSION = "out of session"
NO_BAR = "no bar: nothing in the line can be read"
AFTER_NOW = "time stamp after now"
STRAY = "time stamp months from all others"
FIRST_STAMP = pd.Timestamp("1990-01-01", tz="UTC")
"""No electronic market of index futures is older."""


def faults(raw: pd.DataFrame, spacing: int, zero_volume: str = "drop") -> pd.Series:
    """Reason to quarantine each row (N,), text; None for a sound one. The first reason that applies is given."""
    open_, high, low, close = (raw[name].to_numpy() for name in PRICES)
    lowest = np.minimum(np.minimum(open_, high), np.minimum(low, close))
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    stampless = raw["ts"].isna().to_numpy()
    rules = {
        NO_BAR: stampless & np.isnan(open_) & np.isnan(high) & np.isnan(low) & np.isnan(close),
        "time stamp missing, ambiguous or impossible in its zone": stampless,
        f"time stamp before {FIRST_STAMP.year}": (raw["ts"] < FIRST_STAMP).to_numpy(),
        AFTER_NOW: (raw["ts"] > pd.Timestamp.now("UTC")).to_numpy(),
        STRAY: strays(raw["ts"]),
        "time stamp between the bars of its spacing": off_grid(raw["ts"], spacing),
        "contract missing": missing_contract(raw),
        **_no_contracts(raw),
        "price missing or not finite": ~finite,
        "price zero or negative": lowest <= 0,
        "high below low": high < low,
        "open or close outside the range": (np.maximum(open_, close) > high) | (np.minimum(open_, close) < low),
    }
    if "volume" in raw:
        volume = raw["volume"].to_numpy()
        rules["volume missing or not finite"] = ~np.isfinite(volume)
        rules["volume negative"] = volume < 0
        rules["volume zero"] = (volume == 0) & (zero_volume == "quarantine")
        rules["prices that move without volume"] = (volume == 0) & (high > low) & (zero_volume == "drop")
    reason = np.full(len(raw), None, dtype=object)
    for text, broken in reversed(rules.items()):
        if broken.any():
            reason[broken] = text
    return pd.Series(reason, index=raw.index)


def without_price(raw: pd.DataFrame) -> np.ndarray:
    """True (N,) on rows with a stamp, no price and no volume: a resampled minute without a trade."""
    empty = raw["open"].isna().to_numpy()
    if not empty.any():
        return empty
    empty = np.logical_and.reduce([raw["ts"].notna(), *(raw[name].isna() for name in PRICES)])
    return empty & (raw["volume"].fillna(0) == 0).to_numpy() if "volume" in raw else empty


def fillers(raw: pd.DataFrame) -> np.ndarray:
    """True (N,) on flat bars of volume 0: a vendor's filler for a minute without a trade.

    Raises ValueError where every volume is 0: such a column says nothing.
    """
    if "volume" not in raw:
        return np.zeros(len(raw), dtype=bool)
    empty = (raw["volume"] == 0).to_numpy()
    if empty.all():
        raise ValueError(
            "expected volumes, found 0 in every row: set features.volume=false to do without, or bring another file"
        )
    return empty & (raw["high"] == raw["low"]).to_numpy()


def strays(ts: pd.Series) -> np.ndarray:
    """True (N,) on a few days' rows, under one in a hundred, that lie more than half a year from all others."""
    day = nanoseconds(ts) // DAY_NS
    code, days = pd.factorize(np.where(ts.isna(), np.iinfo(np.int64).min, day))
    order = np.argsort(days)
    group = np.empty(len(days), dtype=np.int64)
    group[order] = np.cumsum(np.diff(days[order], prepend=days[order[:1]]) > 180)
    if group.max(initial=0) == 0:
        return np.zeros(len(ts), dtype=bool)
    rows, n_days = np.bincount(group[code]), np.bincount(group)
    few = (rows < 0.01 * len(ts)) & (n_days <= 3)
    return few[group[code]] & ts.notna().to_numpy()


def off_grid(ts: pd.Series, spacing: int) -> np.ndarray:
    """True (N,) where a stamp is no multiple of the spacing (minutes)."""
    return nanoseconds(ts) % (spacing * MINUTE_NS) != 0


def missing_contract(raw: pd.DataFrame) -> np.ndarray:
    """True (N,) where a row names no contract in a file that names them."""
    if "contract" not in raw:
        return np.zeros(len(raw), dtype=bool)
    return (raw["contract"].isna() | (raw["contract"] == "")).to_numpy()


def _no_contracts(raw: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows (N,) of calendar spreads, and of other combinations: text without an expiry where most rows name one.

    Where numbers stand for contracts, a spread is told by its level: a small part of that of the commonest one.
    """
    if "contract" not in raw:
        return {}
    code, texts = pd.factorize(raw["contract"])
    kinds = [parse_symbol(str(text)).kind for text in texts]
    spread = np.array([kind == "spread" for kind in kinds] + [False])[code]
    if "identity" in kinds and len(kinds) > 1:
        level = raw["close"].abs().groupby(code).median()
        spread |= (
            (level < 0.2 * level.loc[np.bincount(code[code >= 0]).argmax()]).reindex(code, fill_value=False).to_numpy()
        )
    named = np.array([kind == "contract" for kind in kinds] + [True])[code]
    unknown = np.array([kind == "unknown" for kind in kinds] + [False])[code] & (raw["contract"] != "").to_numpy()
    return {SPREAD: spread, COMBINATION: unknown & (2 * named.sum() > len(raw))}


def without_duplicates(bars: pd.DataFrame, code: np.ndarray) -> np.ndarray:
    """Rows to keep (N,), bool: the first of identical bars of one minute and contract.

    bars is sorted by ts, then contract code (N,). Raises ValueError where such bars differ.
    """
    values = bars[[*PRICES, *(("volume",) if "volume" in bars else ())]].to_numpy()
    stamp = nanoseconds(bars["ts"])
    repeated = np.zeros(len(bars), dtype=bool)
    repeated[1:] = (stamp[1:] == stamp[:-1]) & (code[1:] == code[:-1])
    again = np.flatnonzero(repeated)
    conflict = again[(values[again] != values[again - 1]).any(axis=1)]
    if len(conflict):
        example = ", ".join(str(ts) for ts in bars["ts"].iloc[conflict[:3]])
        raise ValueError(
            f"expected one bar per minute and contract, found {len(conflict)} that differ from another of the same "
            f"minute (at {example}): remove one of each, or add the contract column if these are several contracts"
        )
    return ~repeated

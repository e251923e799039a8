"""Which rows of a raw file can be believed: reasons for quarantine, duplicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.contracts import is_outright, parse_expiry
from nqcast.market.schema import MINUTE_NS, PRICES

SPREAD = "calendar spread, not a contract"
COMBINATION = "a symbol that names no contract, in a file of contracts"
OTHER_MONTH = "a contract month that never becomes the front"
NO_FAULT = (SPREAD, COMBINATION, OTHER_MONTH)
"""Reasons that are no fault of the file."""
OUT_OF_SESSION = "out of session"
FIRST_STAMP = pd.Timestamp("1990-01-01", tz="UTC")
"""No electronic market of index futures is older."""


def faults(raw: pd.DataFrame, spacing: int, zero_volume: str = "drop") -> pd.Series:
    """Reason to quarantine each row (N,), text; None for a sound one. The first reason that applies is given."""
    open_, high, low, close = (raw[name].to_numpy() for name in PRICES)
    lowest = np.minimum(np.minimum(open_, high), np.minimum(low, close))
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    rules = {
        "time stamp missing, ambiguous or impossible in its zone": raw["ts"].isna().to_numpy(),
        f"time stamp before {FIRST_STAMP.year}": (raw["ts"] < FIRST_STAMP).to_numpy(),
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
        reason[broken] = text
    return pd.Series(reason, index=raw.index)


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


def off_grid(ts: pd.Series, spacing: int) -> np.ndarray:
    """True (N,) where a stamp is no multiple of the spacing (minutes)."""
    return nanoseconds(ts) % (spacing * MINUTE_NS) != 0


def missing_contract(raw: pd.DataFrame) -> np.ndarray:
    """True (N,) where a row names no contract in a file that names them."""
    if "contract" not in raw:
        return np.zeros(len(raw), dtype=bool)
    return (raw["contract"].isna() | (raw["contract"] == "")).to_numpy()


def _no_contracts(raw: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows (N,) of calendar spreads, and of other combinations: text without an expiry where most rows name one."""
    if "contract" not in raw:
        return {}
    code, texts = pd.factorize(raw["contract"])
    spread = np.array([not is_outright(str(text)) for text in texts] + [False])[code]
    named = np.array([parse_expiry(str(text), 2000, 1) is not None for text in texts] + [True])[code]
    odd = ~named & ~spread & (raw["contract"] != "").to_numpy()
    return {SPREAD: spread, COMBINATION: odd & (2 * named.sum() > len(raw))}


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

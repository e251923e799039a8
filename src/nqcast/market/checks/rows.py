"""Which rows of a raw file can be believed: reasons for quarantine, duplicates."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, MINUTE_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.schema import PRICES
from nqcast.market.symbols import parse_symbol

SPREAD = "calendar spread, not a contract"
COMBINATION = "a symbol that names no contract, in a file of contracts"
OTHER_MONTH = "a contract month that never becomes the front"
NO_FAULT = (SPREAD, COMBINATION, OTHER_MONTH)
"""Reasons that are no fault of the file."""
OUT_OF_SESSION = "out of session"
AT_CLOSE = "out of session: at a close, as the last bar of a session is stamped at its END"
NO_BAR = "no bar: nothing in the line can be read"
AFTER_NOW = "time stamp after now"
STRAY = "time stamp days or months from the rows around it"
FIRST_STAMP = pd.Timestamp("1990-01-01", tz="UTC")
"""No electronic market of index futures is older."""
_FEW = 0.01  # of the rows
_LONGEST_WEEKEND, _WEEK = 5, 6  # days
_LARGEST = 100_000  # contracts in a bar, below which none is asked about


def faults(raw: pd.DataFrame, spacing: int, zero_volume: str = "drop") -> tuple[pd.Series, np.ndarray]:
    """Why rows are to be quarantined, the first reason that applies by the row's label; which others (N,) are no trade.

    No trade is a row without prices and volume, as `resample` writes it, and, where zero_volume says drop, a flat one
    of volume 0, or one that repeats the prices before, with which vendors fill minutes. Where over a hundredth of the
    rows have no volume, these are such rows.
    """
    prices = open_, high, low, close = [raw[name].to_numpy() for name in PRICES]
    volume = raw["volume"].to_numpy() if "volume" in raw else np.ones(len(raw))
    blank = np.isnan(volume)
    lowest = np.minimum(np.minimum(open_, high), np.minimum(low, close))
    finite = np.isfinite(open_) & np.isfinite(high) & np.isfinite(low) & np.isfinite(close)
    priceless = np.isnan(open_) & np.isnan(high) & np.isnan(low) & np.isnan(close)
    stampless = raw["ts"].isna().to_numpy()
    still = (volume == 0) | (blank & (blank.sum() > _FEW * len(raw)))
    again = still
    if still.any():
        again = np.logical_and.reduce([np.diff(price, prepend=np.nan) == 0 for price in prices])
    filler = still & ((high == low) | again) & (zero_volume == "drop")
    rules = {
        NO_BAR: stampless & priceless,
        "time stamp missing, ambiguous or impossible in its zone": stampless,
        f"time stamp before {FIRST_STAMP.year}": (raw["ts"] < FIRST_STAMP).to_numpy(),
        AFTER_NOW: (raw["ts"] > pd.Timestamp.now("UTC")).to_numpy(),
        STRAY: strays(raw["ts"]),
        "time stamp between the bars of its spacing": nanoseconds(raw["ts"]) % (spacing * MINUTE_NS) != 0,
        **_no_contracts(raw),
        "price missing or not finite": ~finite,
        "price zero or negative": lowest <= 0,
        "high below low": high < low,
        "open or close outside the range": (np.maximum(open_, close) > high) | (np.minimum(open_, close) < low),
        "volume missing or not finite": ~np.isfinite(volume),
        "volume negative": volume < 0,
        "volume that no bar has": _impossible(volume),
        "volume zero": still & (zero_volume == "quarantine"),
        "prices that move without volume": still & (high > low) & (zero_volume == "drop"),
    }
    nothing = (priceless & (blank | ("volume" not in raw))) | (still & (~finite | ((high == 0) & (lowest == 0))))
    empty = ~stampless & (nothing | (filler & (blank | again)))
    reasons = first_reasons(rules, raw.index, but=empty)
    empty |= filler
    empty[raw.index.get_indexer(reasons.index)] = False
    return reasons, empty


def _impossible(volume: np.ndarray) -> np.ndarray:
    """True (N,) on volumes a hundred times as large as all but a hundredth of them, and larger than any bar's."""
    most = _LARGEST if np.nanmax(volume, initial=0) <= _LARGEST else max(_LARGEST, 100 * np.nanquantile(volume, 0.99))
    return volume > most


def first_reasons(rules: dict[str, np.ndarray], index: pd.Index, but: np.ndarray | None = None) -> pd.Series:
    """The first rule that each row (N,) breaks, as text by the row's label; rows of `but` break none."""
    any_ = np.logical_or.reduce(list(rules.values()))
    broken = np.flatnonzero(any_ if but is None else any_ & ~but)
    reason = np.select([rows[broken] for rows in rules.values()], list(rules), "")
    return pd.Series(reason, index[broken], dtype="str")


def strays(ts: pd.Series) -> np.ndarray:
    """True (N,) on a week's rows, or less, that lie more than half a year from others, five times as many.

    And on single rows, under one in a hundred, that alone break the file's order by more than a day: they are misread.
    """
    day = nanoseconds(ts) // DAY_NS
    move = np.diff(day)
    days = np.unique(day[np.append(True, move != 0)])  # of rows in order few are left to sort
    begins = days[np.diff(days, prepend=days[:1]) > 180]  # of all groups but the first
    stray = np.zeros(len(ts), dtype=bool)
    if (backwards := int((move < 0).sum())) and len(ts) > 2:
        before, after = day[:-2], day[2:]
        beside = (after - before >= 0) & (after - before <= _LONGEST_WEEKEND)
        stray[1:-1] = beside & ((day[1:-1] > after + 1) | (day[1:-1] < before - 1))
        stray &= backwards <= stray.sum() < max(_FEW * len(ts), 2)
    if len(day) > 1:  # a last row alone, on which a forecast would stand
        stray[-1] |= np.abs(day[:-1] - day[-1]).min() > _LONGEST_WEEKEND
    if len(begins):
        group = np.searchsorted(begins, day, side="right")
        size, n_days = (np.bincount(each) for each in (group, np.searchsorted(begins, days, side="right")))
        stray |= ((size < 0.2 * size.max()) & (n_days <= _WEEK))[group]
    return stray & ts.notna().to_numpy()


def _no_contracts(raw: pd.DataFrame) -> dict[str, np.ndarray]:
    """Rows (N,) without a contract in a file that names them, of spreads, and of symbols that name none among others.

    Where numbers stand for contracts, a spread is told by its level: a small part of that of the commonest one.
    """
    if "contract" not in raw:
        return {}
    code, texts = pd.factorize(raw["contract"])
    kind = np.array([parse_symbol(text).kind if text else "" for text in map(str, texts)] + [""])  # "" for none
    spread = kind == "spread"
    if "identity" in kind and len(texts) > 1:
        level = raw["close"].abs().groupby(code).median().reindex(range(len(kind))).to_numpy()
        spread |= level < 0.2 * level[np.bincount(code[code >= 0]).argmax()]
    named = np.bincount(code[code >= 0], minlength=len(kind))[kind == "contract"].sum()
    unknown = (kind == "unknown") & (2 * named > len(raw))
    return {"contract missing": (kind == "")[code], SPREAD: spread[code], COMBINATION: unknown[code]}


def without_duplicates(bars: pd.DataFrame) -> np.ndarray:
    """Rows to keep (N,), bool: the first of identical bars of one minute and contract.

    bars is sorted by ts, then code. Raises ValueError where such bars differ.
    """
    stamp, code = nanoseconds(bars["ts"]), bars["code"].to_numpy()
    repeated = np.zeros(len(bars), dtype=bool)
    repeated[1:] = (stamp[1:] == stamp[:-1]) & (code[1:] == code[:-1])
    again = np.flatnonzero(repeated)
    values = bars[[name for name in (*PRICES, "volume") if name in bars]]
    differ = values.iloc[again].to_numpy() != values.iloc[again - 1].to_numpy()
    conflict = again[differ.any(axis=1)]
    if len(conflict):
        example = ", ".join(str(ts) for ts in bars["ts"].iloc[conflict[:3]])
        raise ValueError(
            f"expected one bar per minute and contract, found {len(conflict)} that differ from another of the same "
            f"minute (at {example}): remove one of each, or add the contract column if these are several contracts"
        )
    return ~repeated

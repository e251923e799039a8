"""Identity and expiry of futures contracts from the vendor's text."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

MONTH_CODES = "FGHJKMNQUVXZ"
UNKNOWN = "unknown"

_SYMBOL = re.compile(rf"(?P<root>[A-Z0-9]*[A-Z])(?P<month>[{MONTH_CODES}])(?P<year>\d{{4}}|\d{{1,2}})")  # NQU6, NQU2016
_YEAR_MONTH = re.compile(r"(?P<root>[A-Z]*)[ _-]?(?P<year>(?:19|20)\d\d)-?(?P<month>0[1-9]|1[0-2])(?:\d\d)?")  # 201609
_MONTH_YEAR = re.compile(r"(?P<root>[A-Z]+) (?P<month>0[1-9]|1[0-2])-(?P<year>\d\d)")  # NQ 09-16

_MONTHS = 120_000  # more than the months since the year 0

LATE_MONTHS = 1
"""Months past its expiry in which a bar may still be stamped before a short year means the next decade."""


@dataclass(frozen=True)
class Contracts:
    """Contract of every bar: `code` (N,) indexes `names`, which are in order of expiry."""

    code: np.ndarray
    names: tuple[str, ...]
    known: bool
    expiry: tuple[int, ...] | None = None
    """Expiry month of each name (12 * year + month - 1); None where the text does not say."""
    root: str = ""
    """The product in the contracts' text, such as NQ; empty where it is not in it."""


def is_outright(name: str) -> bool:
    """False for a calendar spread such as NQU6-NQZ6, which is priced as a difference."""
    parts = name.strip().upper().split("-")
    return not (len(parts) > 1 and all(_SYMBOL.fullmatch(part) for part in parts))


def parse_expiry(name: str, year: int, month: int) -> tuple[str, int] | None:
    """Root and expiry month (12 * year + month - 1) of a contract seen in the given month; None if it says neither.

    A year of one or two digits is the first such year in which the contract has not expired by then.
    """
    text = name.strip().upper()
    if found := _YEAR_MONTH.fullmatch(text):
        return found["root"], 12 * int(found["year"]) + int(found["month"]) - 1
    if found := _MONTH_YEAR.fullmatch(text):
        month_index = int(found["month"]) - 1
    elif found := _SYMBOL.fullmatch(text):
        month_index = MONTH_CODES.index(found["month"])
    else:
        return None
    digits = found["year"]
    if len(digits) == 4:
        return found["root"], 12 * int(digits) + month_index
    cycle = 10 ** len(digits)
    earliest = 12 * year + month - 1 - LATE_MONTHS
    full = earliest // 12 + (int(digits) - earliest // 12) % cycle
    return found["root"], 12 * (full + cycle * (12 * full + month_index < earliest)) + month_index


def identify_contracts(contract: pd.Series | None, ts: pd.Series) -> Contracts:
    """Contract of each bar, ordered by expiry; by first appearance where the text names no expiry.

    ts (N,) UTC, sorted. Contracts count as unknown when the file names none, or one and the same text that is no
    contract (a continuous symbol). Raises ValueError when the file mixes products.
    """
    if contract is None or contract.isna().all():
        return Contracts(np.zeros(len(ts), dtype=np.int64), (UNKNOWN,), known=False)
    text_code, texts = pd.factorize(contract.fillna(UNKNOWN))
    month = (ts.dt.year * 12 + ts.dt.month - 1).to_numpy()
    pairs, pair_code = _distinct(text_code * _MONTHS + month)
    pair_text, pair_month = np.divmod(pairs, _MONTHS)
    parsed = [parse_expiry(str(texts[t]), m // 12, m % 12 + 1) for t, m in zip(pair_text, pair_month, strict=True)]
    if any(found is None for found in parsed):
        return Contracts(text_code.astype(np.int64), tuple(str(text) for text in texts), known=len(texts) > 1)
    roots = sorted({found[0] for found in parsed if found})
    if len(roots) > 1:
        raise ValueError(
            f"expected the bars of one product, found contracts of {', '.join(root or '(none)' for root in roots)}: "
            "split the file by product"
        )
    expiries, expiry_code = np.unique([found[1] for found in parsed if found], return_inverse=True)
    names = [str(texts[pair_text[np.argmax(expiry_code == k)]]) for k in range(len(expiries))]
    if len(set(names)) < len(names):  # NQH1 of 2011 and NQH1 of 2021 in one file
        names = [f"{name}@{expiry // 12}" for name, expiry in zip(names, expiries, strict=True)]
    months = tuple(int(month) for month in expiries)
    return Contracts(expiry_code[pair_code].astype(np.int64), tuple(names), known=True, expiry=months, root=roots[0])


def _distinct(key_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct keys and the number of each row's key among them; without sorting millions of rows."""
    code, keys = pd.factorize(key_N)
    return keys, code

"""Which contract every bar belongs to, and in which order contracts expire."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.symbols import MONTH_CODES, Symbol, parse_symbol

UNKNOWN = "unknown"
_MONTHS = 120_000  # more than the months since the year 0

LATE_MONTHS = 1
"""Months past its expiry in which a bar may still be stamped before a short year means the next decade."""


@dataclass(frozen=True)
class Contracts:
    """The contracts of a file, in order of expiry: bars have the index of their contract's name as `code`."""

    names: tuple[str, ...]
    known: bool
    expiry: tuple[int, ...] | None = None
    """Expiry month of each name (12 * year + month - 1); None where the text does not say."""
    product: str = ""
    """What the symbols name; empty where they name none."""


def as_names(column: pd.Series) -> pd.Series:
    """A column of symbols as categories of text: of millions of rows each symbol is read once."""
    code, found = pd.factorize(column)
    # A gap makes a column of floats of 201603.
    text = [re.sub(r"^(\d+)\.0$", r"\1", str(each).strip()) for each in found]
    of_text, names = pd.factorize(pd.Series(text, dtype="str"))
    return pd.Series(pd.Categorical.from_codes(np.append(of_text, -1)[code], names), column.index, name=column.name)


def expiry_month(symbol: Symbol, year: int, month: int) -> int:
    """Expiry (12 * year + month - 1) of a contract seen in the given month.

    A year of one or two digits is the first such year in which the contract has not expired by then.
    """
    if len(symbol.year) == 4:
        return 12 * int(symbol.year) + symbol.month
    cycle = 10 ** len(symbol.year)
    earliest = 12 * year + month - 1 - LATE_MONTHS
    full = earliest // 12 + (int(symbol.year) - earliest // 12) % cycle
    return 12 * (full + cycle * (12 * full + symbol.month < earliest)) + symbol.month


def one_product(symbols: list[Symbol]) -> str:
    """The product that the symbols name, or nothing; ValueError where they name two."""
    products = sorted({symbol.product for symbol in symbols if symbol.product})
    if len(products) > 1:
        raise ValueError(
            f"expected the bars of one product, found contracts of {', '.join(products)}: split the file by product"
        )
    return products[0] if products else ""


def identify_contracts(bars: pd.DataFrame) -> tuple[np.ndarray, Contracts]:
    """Code of each bar (N,), and the contracts in order of expiry.

    bars: ts (UTC, sorted), contract and volume where the file has them. Numbers that tell contracts apart without
    naming them are ordered by when they trade. Contracts count as unknown when the file names none, or one continuous
    series alone.

    Raises:
        ValueError: two products, two continuous series, or contracts beside symbols that name none.
    """
    n = len(bars)
    if "contract" not in bars or bars["contract"].isna().all():
        return np.zeros(n, dtype=np.int64), Contracts((UNKNOWN,), known=False)
    text_code, texts = pd.factorize(bars["contract"])
    names = [str(text) for text in texts]
    symbols = [parse_symbol(name) for name in names]
    product = one_product(symbols)
    kinds = {symbol.kind for symbol in symbols}
    if kinds == {"contract"}:
        return _by_expiry(bars, text_code, names, symbols, product)
    if len(names) == 1 and kinds != {"identity"}:
        return text_code.astype(np.int64), Contracts((names[0],), known=False, product=product)
    if kinds != {"identity"}:
        odd = next(name for name, symbol in zip(names, symbols, strict=True) if symbol.kind != "contract")
        other = next(name for name in names if name != odd)
        raise ValueError(
            f"expected symbols that name the contract's month and year, found {odd!r} beside {other!r}: their order "
            "would be a guess; keep one of the series, or name the contracts (NQH6, NQM6)"
        )
    return _by_trade(bars, text_code, names, product)


def _by_expiry(
    bars: pd.DataFrame, text_code: np.ndarray, names: list[str], symbols: list[Symbol], product: str
) -> tuple[np.ndarray, Contracts]:
    """Contracts whose text names month and year; a short year may mean another decade in other years."""
    month = nanoseconds(bars["ts"]).astype("datetime64[ns]").astype("datetime64[M]").astype(np.int64) + 1970 * 12
    pair_code, pairs = pd.factorize(text_code * _MONTHS + month)
    pair_text, pair_month = np.divmod(pairs, _MONTHS)
    expiry = [expiry_month(symbols[t], m // 12, m % 12 + 1) for t, m in zip(pair_text, pair_month, strict=True)]
    expiries, expiry_code = np.unique(expiry, return_inverse=True)
    chosen = [names[pair_text[np.argmax(expiry_code == k)]] for k in range(len(expiries))]
    if len(set(chosen)) < len(chosen):  # NQH1 of 2011 and NQH1 of 2021 in one file
        chosen = [f"{name}@{months // 12}" for name, months in zip(chosen, expiries, strict=True)]
    months = tuple(int(each) for each in expiries)
    return expiry_code[pair_code].astype(np.int64), Contracts(tuple(chosen), True, months, product)


def _by_trade(
    bars: pd.DataFrame, text_code: np.ndarray, names: list[str], product: str
) -> tuple[np.ndarray, Contracts]:
    """Contracts told apart by numbers alone, in the order of the middle of their trade.

    An earlier contract has traded before a later one does; the number itself says nothing. One that trades most on no
    day is not yet in front: it is a later one.
    """
    weight = bars["volume"].to_numpy() + 1e-9 if "volume" in bars else np.ones(len(bars))
    stamp = nanoseconds(bars["ts"]).astype(np.float64)
    stamp -= stamp[0]
    middle = np.bincount(text_code, weights=weight * stamp) / np.bincount(text_code, weights=weight)
    day = (stamp // DAY_NS).astype(np.int64)
    traded = np.bincount(text_code * (day[-1] + 1) + day, weights=weight, minlength=len(names) * (day[-1] + 1))
    never = ~np.isin(np.arange(len(names)), traded.reshape(len(names), -1).argmax(axis=0))
    order = np.lexsort((middle, never))
    rank = np.empty(len(order), dtype=np.int64)
    rank[order] = np.arange(len(order))
    ordered = tuple(names[k] for k in order)
    return rank[text_code], Contracts(ordered, known=len(names) > 1, product=product)


def other_months(code: np.ndarray, contracts: Contracts, months: str) -> np.ndarray:
    """True (N,) on bars of contracts whose month never becomes the front; ValueError where that is all of them."""
    if contracts.expiry is None or not months:
        return np.zeros(len(code), dtype=bool)
    other = np.array([MONTH_CODES[month % 12] not in months for month in contracts.expiry])[code]
    if other.all():
        raise ValueError(
            f"expected contracts of the months {months}, found none among {', '.join(contracts.names[:6])}: set the "
            "instrument of these bars, or its months in a row of your own"
        )
    return other

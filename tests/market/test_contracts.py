"""Expiry of contracts against a literal table."""

from __future__ import annotations

import pandas as pd
import pytest

from nqcast.market.contracts import Contracts, expiry_month, identify_contracts
from nqcast.market.symbols import parse_symbol


@pytest.mark.parametrize(
    ("name", "seen", "expiry"),
    [
        ("201609", (2016, 1), (2016, 9)),
        ("20160916", (2016, 1), (2016, 9)),
        ("NQU6", (2016, 1), (2016, 9)),
        ("nqu6", (2016, 9), (2016, 9)),
        ("NQU6", (2016, 10), (2016, 9)),
        ("NQU6", (2016, 11), (2026, 9)),
        ("NQH0", (2019, 12), (2020, 3)),
        ("NQH1", (2011, 2), (2011, 3)),
        ("NQH1", (2020, 12), (2021, 3)),
        ("NQM0", (2010, 4), (2010, 6)),
        ("NQZ16", (2016, 1), (2016, 12)),
        ("NQU2016", (2016, 1), (2016, 9)),
        ("NQ 09-16", (2016, 1), (2016, 9)),
        ("ESH1", (2020, 12), (2021, 3)),
    ],
)
def test_the_expiry_is_the_first_that_the_text_allows_on_the_bars_date(
    name: str, seen: tuple[int, int], expiry: tuple[int, int]
) -> None:
    found = expiry_month(parse_symbol(name), *seen)
    assert (found // 12, found % 12 + 1) == expiry


SPELLINGS = {
    "contract NQ 12/2016": [
        *(
            "NQZ6",
            "NQZ16",
            "NQZ2016",
            "nqz6",
            "CME_MINI:NQZ2016",
            "CME_MINI_DL:NQZ2016",
            "NQZ16.CME",
            "@NQZ16",
            "/NQZ16",
        ),
        *("/NQZ16:XCME", "NQZ16-CME", "NQZ16_FUT_CME", "NQZ6.FUT", "NQ 12-16", "NQ 12-16.Last", "NQ-12.16", "NQ_Z16"),
        *("NQ DEC16", "NQ Dec '16 @GLOBEX", "NQ DEC 16", "NQ 20161216 FUT CME", "NQZ6 Index", "NQ-2016Z", "NQ2016Z"),
        *("CME:NQZ16", "NQ 201612", "F:NQZ6", "NQ1216", "NQ16Z16", "NQ 2016-12-16 00:00:00", "NQ1612", "XCME.NQZ6"),
    ],
    "contract  12/2016": [
        *("201612", "20161216", "2016-12", "2016-12-16", "12/16/2016", "16/12/2016", "12/2016", "2016/12"),
        *("2016-12-16 13:30:00+00:00", "2016-12-16T21:00:00Z"),
    ],
    "contract ENQ 12/2016": ["ENQZ16", "CON.F.US.ENQ.Z16"],
    "contract M2K 12/2016": ["M2KZ6", "CME_MINI:M2KZ2016"],
    "contract ES 12/2016": ["ESZ6", "@ESZ16", "ES 12-16"],
    "continuous NQ": [
        *("NQ", "NQ=F", "NQ1!", "NQ2!", "CME_MINI:NQ1!", "NQ.v.0", "NQ.c.0", "NQ.n.1", "@NQ", "@NQ#", "@NQ#C", "/NQ"),
        *("/NQ:XCME", "NQ.FUT", "NQ ##-##", "NQ*0", "NQ1", "NQ1 Index", "NQc1", "CHRIS/CME_NQ1", "@NQ.D", "&NQ_CCB"),
        *("NQ_continuous_UNadjusted", "NQ.F"),
    ],
    "continuous M2K": ["M2K", "M2K1!", "CME_MINI:M2K1!"],
    "continuous US100": ["US100"],
    "identity ": ["7001", "42005163"],
    "identity NQ": ["NQ.v.0#90001"],
    "spread ": ["NQU6-NQZ6", "NQU2016-NQZ2016", "NQH6 - NQM6", "-NQU6+NQZ6"],
    "unknown ": ["", "NQ:BF U6-Z6-H7", "UD:1V: GN 123"],
}
"""What each vendor writes, by what it means."""


@pytest.mark.parametrize(
    ("meaning", "text"), [(meaning, text) for meaning, texts in SPELLINGS.items() for text in texts]
)
def test_every_vendors_spelling_names_the_same_product_month_and_year(meaning: str, text: str) -> None:
    symbol = parse_symbol(text)
    found = f"{symbol.kind} {symbol.product}"
    if symbol.kind == "contract":
        months = expiry_month(symbol, 2016, 9)
        found += f" {months % 12 + 1}/{months // 12}"
    assert found == meaning


def _identified(*pairs: tuple[str, str], volume: list[int] | None = None) -> tuple[list[int], Contracts]:
    names = pd.Series([name for name, _ in pairs], dtype="str")
    days = pd.Series(pd.to_datetime([day for _, day in pairs], utc=True))
    bars = pd.DataFrame({"ts": days, "contract": names, "volume": volume or [1] * len(names)})
    code, contracts = identify_contracts(bars)
    return code.tolist(), contracts


def test_contracts_are_numbered_by_expiry_not_by_appearance_nor_alphabet() -> None:
    code, found = _identified(("NQZ6", "2016-08-01"), ("NQH7", "2016-08-02"), ("NQU6", "2016-08-03"))
    assert found.names == ("NQU6", "NQZ6", "NQH7")
    assert code == [1, 2, 0] and found.known


def test_a_year_digit_used_again_after_ten_years_is_another_contract() -> None:
    rows = [("NQH1", "2011-01-10"), ("NQM1", "2011-04-10"), ("NQH1", "2021-01-10"), ("NQM1", "2021-04-10")]
    code, found = _identified(*rows)
    assert found.names == ("NQH1@2011", "NQM1@2011", "NQH1@2021", "NQM1@2021")
    assert code == [0, 1, 2, 3]


def test_numbers_that_tell_contracts_apart_are_ordered_by_when_they_trade() -> None:
    code, found = _identified(("NQ.v.0#9", "2016-09-01"), ("NQ.v.0#3", "2016-09-02"), ("NQ.v.0#3", "2016-09-03"))
    assert found.names == ("NQ.v.0#9", "NQ.v.0#3") and code == [0, 1, 1] and found.known
    days = [(name, f"2016-09-0{day}") for day in (1, 2, 3) for name in ("8", "5")]
    assert _identified(*days, volume=[1, 90, 50, 50, 90, 1])[1].names == ("5", "8")
    assert _identified(*days, volume=[90, 1, 50, 50, 1, 90])[1].names == ("8", "5")


def test_one_continuous_symbol_means_that_contracts_are_unknown() -> None:
    assert not _identified(("NQ.v.0", "2016-09-01"), ("NQ.v.0", "2016-12-02"))[1].known
    assert not identify_contracts(pd.DataFrame({"ts": pd.to_datetime(["2016-09-01"], utc=True)}))[1].known


@pytest.mark.parametrize(
    ("one", "other"), [("NQZ6", "ESZ6"), ("NQ=F", "ES=F"), ("CME_MINI:NQ1!", "CME_MINI:RTY1!"), ("NQZ6", "MNQZ6")]
)
def test_two_products_in_one_file_are_an_error(one: str, other: str) -> None:
    with pytest.raises(ValueError, match=r"one product, found contracts of \w+, \w+: split"):
        _identified((one, "2016-09-01"), (other, "2016-09-01"))


@pytest.mark.parametrize(("one", "other"), [("NQ1!", "NQ2!"), ("NQZ6", "NQ=F"), ("NQ.v.0", "NQ.v.1")])
def test_an_order_that_would_be_a_guess_is_an_error(one: str, other: str) -> None:
    with pytest.raises(ValueError, match="their order would be a guess"):
        _identified((one, "2016-09-01"), (other, "2016-09-01"))

"""Expiry of contracts against a literal table."""

from __future__ import annotations

import pandas as pd
import pytest

from nqcast.market.contracts import identify_contracts, is_outright, parse_expiry


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
    found = parse_expiry(name, *seen)
    assert found is not None
    assert (found[1] // 12, found[1] % 12 + 1) == expiry


@pytest.mark.parametrize("name", ["NQ", "NQ.v.0", "NQ.v.0#90001", "90001", "NQ=F", ""])
def test_a_text_without_an_expiry_is_left_unknown(name: str) -> None:
    assert parse_expiry(name, 2016, 9) is None


def test_a_calendar_spread_is_no_contract_and_a_dash_alone_is_no_spread() -> None:
    assert not is_outright("NQU6-NQZ6")
    assert is_outright("NQ 09-16") and is_outright("NQU6") and is_outright("2016-09")


def _series(*pairs: tuple[str, str]) -> tuple[pd.Series, pd.Series]:
    return pd.Series([name for name, _ in pairs], dtype="str"), pd.Series(
        pd.to_datetime([day for _, day in pairs], utc=True)
    )


def test_contracts_are_numbered_by_expiry_not_by_appearance_nor_alphabet() -> None:
    found = identify_contracts(*_series(("NQZ6", "2016-08-01"), ("NQH7", "2016-08-02"), ("NQU6", "2016-08-03")))
    assert found.names == ("NQU6", "NQZ6", "NQH7")
    assert found.code.tolist() == [1, 2, 0] and found.known


def test_a_year_digit_used_again_after_ten_years_is_another_contract() -> None:
    rows = [("NQH1", "2011-01-10"), ("NQM1", "2011-04-10"), ("NQH1", "2021-01-10"), ("NQM1", "2021-04-10")]
    found = identify_contracts(*_series(*rows))
    assert found.names == ("NQH1@2011", "NQM1@2011", "NQH1@2021", "NQM1@2021")
    assert found.code.tolist() == [0, 1, 2, 3]


def test_unknown_texts_are_numbered_by_first_appearance() -> None:
    found = identify_contracts(
        *_series(("NQ.v.0#9", "2016-09-01"), ("NQ.v.0#3", "2016-09-02"), ("NQ.v.0#9", "2016-09-03"))
    )
    assert found.names == ("NQ.v.0#9", "NQ.v.0#3") and found.code.tolist() == [0, 1, 0] and found.known


def test_one_continuous_symbol_means_that_contracts_are_unknown() -> None:
    found = identify_contracts(*_series(("NQ.v.0", "2016-09-01"), ("NQ.v.0", "2016-12-02")))
    assert not found.known
    assert not identify_contracts(None, _series(("x", "2016-09-01"))[1]).known


def test_two_products_in_one_file_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"one product, found contracts of ES, NQ.*split"):
        identify_contracts(*_series(("NQZ6", "2016-09-01"), ("ESZ6", "2016-09-01")))

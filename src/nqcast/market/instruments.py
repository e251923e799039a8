"""Instruments: what ingest and calendar have to know of a product, as one table (instruments.yml) and own rows."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, time
from functools import cache
from typing import Any, Self
from zoneinfo import available_timezones

from pydantic import Field, ValidationError, field_validator, model_validator

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.fields import Configuration, closest, complaints, did_you_mean
from nqcast.market.symbols import MONTH_CODES
from nqcast.market.tables import KINDS, NAMES, PRODUCTS, read_table

INDEX_FUTURES = "CME_Equity"
"""The calendar whose dated corrections, halts and early closes stand in `calendar`."""


class Halt(Configuration):
    """A daily pause of trading inside the session, in the instrument's zone."""

    start: time
    end: time
    until: date | None = Field(None, description="Last trading date that has it; none = it is in force.")


class Instrument(Configuration):
    """One row of the table."""

    symbol: str = Field("NQ", description="Its name in the table.")
    name: str = Field("", description="What it is, in words.")
    tick: float = Field(0.25, gt=0, description="Smallest price step (points).")
    calendar: str = Field(INDEX_FUTURES, description="Sessions, by the name that pandas_market_calendars gives them.")
    zone: str = Field(EXCHANGE_TIMEZONE, description="Zone of `opens` and `halt`.")
    opens: time | None = Field(
        None, description="Hour at which every date's session begins the day before and the last one ends; with 24/5."
    )
    closed: tuple[str, ...] = Field((), description="Days of the year without a session, as MM-DD; with 24/5.")
    halt: Halt | None = Field(None, description="Daily pause that the calendar does not know.")
    months: str = Field(
        MONTH_CODES,
        description="Letters of the contract months that become the front; empty for quotes, which never roll.",
    )

    @field_validator("months")
    @classmethod
    def _known_months(cls, months: str) -> str:
        wrong = sorted(set(months) - set(MONTH_CODES))
        if wrong:
            raise ValueError(f"expected letters of contract months among {MONTH_CODES}, found {months!r}: correct them")
        return months

    @model_validator(mode="after")
    def _hours_fit(self) -> Self:
        if (self.calendar == "24/5") != (self.opens is not None):
            raise ValueError(
                f"expected opens with the calendar 24/5 and with no other, found calendar {self.calendar} and opens "
                f"{self.opens}: give both, such as opens: '17:00' and zone: America/New_York, or neither"
            )
        if self.calendar == INDEX_FUTURES and self.halt is not None:
            raise ValueError(
                f"expected no halt with {INDEX_FUTURES}, which has its own by date, found one: leave it out"
            )
        return self

    @property
    def date_change(self) -> tuple[str, time]:
        """Zone and hour at which the trading date changes."""
        return (self.zone, self.opens) if self.opens else (EXCHANGE_TIMEZONE, time(17))


@cache
def table() -> dict[str, Instrument]:
    """The instruments that this package ships, by symbol."""
    return {symbol: Instrument(symbol=symbol, **row) for symbol, row in read_table("instruments").items()}


def instrument(symbol: str, own: Mapping[str, Mapping[str, Any]] | None = None) -> Instrument:
    """The row of a symbol, the user's `own` before the shipped ones; ValueError where there is none."""
    if own and symbol in own:
        return _own_row(symbol, own[symbol])
    if symbol in table():
        return table()[symbol]
    raise ValueError(
        "expected an instrument of the table, or of rows of your own below `instruments` in conf/local/parameters.yml, "
        f"found {symbol!r}: {did_you_mean(symbol, [*(own or ()), *table()])}"
    )


def _own_row(symbol: str, row: Mapping[str, Any]) -> Instrument:
    import pandas_market_calendars  # of parameters a row of one's own alone needs pandas

    try:
        found = Instrument(**{"symbol": symbol, **row})
    except ValidationError as error:
        raise ValueError(f"in its row of `instruments`, {'; '.join(complaints(error, Instrument))}") from None
    for field, names in (("calendar", pandas_market_calendars.get_calendar_names()), ("zone", available_timezones())):
        if (name := getattr(found, field)) not in names:
            meant = closest(name, names)
            cure = f"did you mean {meant}?" if meant else "take one of pandas_market_calendars, or of the IANA's zones"
            raise ValueError(f"in its row of `instruments`, {field}: expected the name of one, found {name!r}: {cure}")
    return found


def known_products() -> set[str]:
    """What symbols may be of: the products that tables name."""
    return {*PRODUCTS, *table(), *(name for names in NAMES.values() for name in names)}


def require_calendar(product: str, chosen: Instrument) -> None:
    """Raise ValueError for bars of a product that trades by another calendar, or by one that no table names.

    A name that no table holds may be anything's, of an instrument of the user's own or one that begins with its symbol.
    """
    known, own = table().get(product), chosen.symbol
    if product.startswith(own) or product in ("", *NAMES.get(own, ()), *KINDS.split("|")):
        return
    if own not in table() and product not in known_products():
        return
    if known is None or known.calendar != chosen.calendar:
        trades = f"which trades by {known.calendar}: " if known else "of which the table of instruments has no row: "
        cure = "" if known else f"leave the name out where they are {own}, or add a row and "
        raise ValueError(
            f"expected bars of {own}, which trades by {chosen.calendar}, found contracts of {product}, {trades}{cure}"
            f"set instrument={product}"
        )

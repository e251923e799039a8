"""What a vendor's symbol says: which product, which month and year, or that it is a continuous series.

Every vendor decorates the same three facts in its own way: CME_MINI:NQZ2016, @NQZ16, NQZ16-CME, NQ 12-16, 201612.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from nqcast.market.tables import KINDS, PRODUCTS, VENUES

MONTH_CODES = "FGHJKMNQUVXZ"
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_BEFORE = re.compile(rf"(?:(?:{VENUES}|CHRIS)[:/_ .]|CON\.|F\.US\.|F:|[@/&#$])+")
_AFTER = re.compile(rf"(?:[\s._:@-]+(?:{VENUES}|{KINDS}))+")

_ROOT = r"(?P<root>[A-Z0-9]*[A-Z])"
_CONTRACTS = tuple(
    re.compile(pattern)
    for pattern in (
        # 201612, 2016-12-16 13:30:00+00:00
        rf"(?:{_ROOT})?[ _-]?(?P<year>(?:19|20)\d\d)[_/-]?(?P<number>0[1-9]|1[0-2])(?:[/-]?\d\d)?(?:[ T]\d\d:.*)?",
        rf"(?:{_ROOT} )?(?P<number>0?[1-9]|1[0-2])/(?:\d\d?/)?(?P<year>20\d\d)",  # 12/16/2016, 12/2016
        rf"(?:{_ROOT} )?(?:1[3-9]|2\d|3[01])/(?P<number>0?[1-9]|1[0-2])/(?P<year>20\d\d)",  # 16/12/2016
        rf"{_ROOT}[ _-](?P<number>0[1-9]|1[0-2])[-./](?P<year>\d\d(?:\d\d)?)",  # NQ 12-16, NQ-12.16
        rf"(?:{_ROOT}[ _-]?)?(?P<name>{'|'.join(_MONTH_NAMES)})[ '_-]{{0,2}}(?P<year>\d\d(?:\d\d)?)",  # NQ DEC16
        rf"{_ROOT}[ _.-]?(?:[0-3]\d)?(?P<code>[{MONTH_CODES}])[ _-]?(?P<year>20\d\d|\d{{1,2}})",  # NQZ6, NQ16Z16
        rf"{_ROOT}[ _-]?(?P<year>\d\d(?:\d\d)?)(?P<code>[{MONTH_CODES}])",  # NQ2016Z, NQ16Z
        rf"{_ROOT}(?P<number>0[1-9]|1[0-2])(?P<year>\d\d)",  # NQ1216
        rf"{_ROOT}(?P<year>1[3-9]|[2-9]\d)(?P<number>0[1-9]|1[0-2])",  # NQ1612
        rf"(?P<code>[{MONTH_CODES}])(?P<year>\d\d(?:\d\d)?)",  # Z16, Z2016
    )
)
_SERIES = re.compile(
    r"(?P<root>[A-Z0-9]*?[A-Z])(?:=F|\d?\d!|\.[CVN]\.\d+|#C?|\*\d|C\d| ##-##|\d)|(?P<bare>[A-Z][A-Z0-9]*)"
)
_LEG = re.compile(rf"[A-Z0-9]*[{MONTH_CODES}]\d{{1,4}}")
_IDENTITY = re.compile(r"(?:(.*)#)?(\d+)")

Kind = Literal["contract", "continuous", "identity", "spread", "unknown"]


@dataclass(frozen=True)
class Symbol:
    """A symbol taken apart.

    contract: a month and a year; continuous: a product alone; identity: a number that tells contracts apart without
    naming them, alone or behind a continuous symbol; spread: two legs or more; unknown: none of these.
    """

    kind: Kind
    product: str = ""
    month: int = 0
    year: str = ""
    """The year as it is written: one, two or four digits."""


def parse_symbol(text: str) -> Symbol:
    """The parts of a symbol in any vendor's spelling, without regard to case."""
    bare = re.sub(r"\s+", " ", text.strip().upper())
    if found := _IDENTITY.fullmatch(bare):
        if not found[1] and any(pattern.fullmatch(bare) for pattern in _CONTRACTS[:1]):
            return _contract(bare) or Symbol("unknown")
        return Symbol("identity", parse_symbol(found[1]).product if found[1] else "")
    if len(legs := [leg.strip() for leg in re.split(r"[-+]", bare.lstrip("-+"))]) > 1 and all(
        map(_LEG.fullmatch, legs)
    ):
        return Symbol("spread")
    core = _undecorated(bare)
    return _continuous(core, known_only=True) or _contract(core) or _continuous(core) or Symbol("unknown")


def _undecorated(text: str) -> str:
    """The symbol without its venue and the kind of the instrument, before and after it."""
    while (found := _BEFORE.match(text)) and found.end() < len(text):
        text = text[found.end() :]
    found = re.search(rf"(?:{_AFTER.pattern})$", text)
    return text[: found.start()] if found and found.start() else text


def _contract(text: str) -> Symbol | None:
    for pattern in _CONTRACTS:
        if found := pattern.fullmatch(text):
            parts = found.groupdict()
            if parts.get("code"):
                month = MONTH_CODES.index(parts["code"])
            else:
                month = _MONTH_NAMES.index(parts["name"]) if parts.get("name") else int(parts["number"]) - 1
            return Symbol("contract", parts.get("root") or "", month, parts["year"])
    return None


def _continuous(text: str, known_only: bool = False) -> Symbol | None:
    """A continuous series; with known_only, one whose root is among the products that are known."""
    found = _SERIES.fullmatch(text)
    product = (found["root"] or found["bare"]) if found else ""
    return Symbol("continuous", product) if product and (product in PRODUCTS or not known_only) else None

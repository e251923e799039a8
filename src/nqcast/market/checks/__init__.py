"""Whether bars can be believed: what is kept of a file and doubted about it, and whether that ends the run."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from typing import Any, TypedDict

import pandas as pd

from nqcast.market.config import IngestConfig
from nqcast.market.contracts import Contracts
from nqcast.market.rolls import RollEntry
from nqcast.market.tables import read_table

logger = logging.getLogger(__name__)


class Doubt(TypedDict):
    """What is doubted, in how many places, and the words for it."""

    check: str
    count: int
    detail: str


@dataclass(frozen=True)
class Underway:
    """What is kept of a file so far, and what was found about it.

    rows: all of them, by the start of their bar; bars: those that are kept, sorted by ts, then code (index of the
    contracts' names); rejected: why others are not, text by the row's label; counts: rows by what became of them.
    """

    rows: pd.DataFrame
    bars: pd.DataFrame
    contracts: Contracts
    spacing: int
    rejected: pd.Series
    doubts: list[Doubt]
    counts: dict[str, int]
    questions: list[dict[str, Any]] = field(default_factory=list)
    sessions: pd.DataFrame = field(default_factory=pd.DataFrame)
    ledger: list[RollEntry] = field(default_factory=list)

    def rejecting(self, reasons: pd.Series, doubts: list[Doubt], **changes: Any) -> Underway:
        """The file without the rows that `reasons` stand against, and with more doubts."""
        bars = self.bars[~self.bars.index.isin(reasons.index)] if len(reasons) else self.bars
        found = {"rejected": pd.concat([self.rejected, reasons]), "doubts": [*self.doubts, *doubts]}
        return replace(self, **{"bars": bars, **found, **changes})


def as_doubt(kind: str, count: int, **found: Any) -> Doubt:
    """A doubt of a kind of doubts.yml, in how many places, in its words with what was found in them."""
    return {"check": kind.partition("/")[0], "count": count, "detail": read_table("doubts")[kind].format(**found)}


def stop_or_warn(found: list[Doubt], config: IngestConfig) -> list[Doubt]:
    """The doubts, each said aloud; ValueError for the first of them where doubtful files are to stop."""
    for doubt in found:
        message = f"{doubt['check']}: {doubt['detail']}"
        if config.doubtful == "stop":
            raise ValueError(
                f"expected a file of bars that can be trusted, found {message}. Correct the file, or set "
                "ingest.doubtful=warn to use it all the same"
            )
        logger.warning("%s. The file is used all the same, as ingest.doubtful=warn asks", message)
    return found

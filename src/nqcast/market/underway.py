"""A file of bars between two steps of ingest."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from nqcast.market.checks import Doubt
from nqcast.market.contracts import Contracts
from nqcast.market.rolls import RollEntry


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

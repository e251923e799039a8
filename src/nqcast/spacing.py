"""How far bars stand apart: five minutes, or what `bar_minutes` says. Whoever holds a table of bars reads it there.

Counts of bars in parameters (windows, half-lives, warm-up) are of five minutes, whatever the spacing; `lasting` and
`rows` say how many rows of a table are as long. What they count from is exact where bars are of five minutes.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nqcast.constants import BAR_MINUTES, MINUTE_NS

BarMinutes = Literal[1, 5, 15, 30]
_WORDS = {1: "one", 5: "five", 15: "fifteen", 30: "thirty"}


class Spacing(NamedTuple):
    """Minutes from the start of a bar to that of the next one."""

    minutes: int = BAR_MINUTES

    @classmethod
    def of(cls, ts: ArrayLike) -> Spacing:
        """The spacing of the bars that start at `ts`, of which a session lacks none: their least distance."""
        steps = np.diff(np.asarray(ts, dtype="datetime64[ns]").astype(np.int64)) // MINUTE_NS
        steps = steps[steps > 0]
        return cls(int(steps.min())) if len(steps) else cls()

    @property
    def bar(self) -> dt.timedelta:
        """The time that a bar lasts."""
        return dt.timedelta(minutes=self.minutes)

    @property
    def word(self) -> str:
        """The spacing before a noun: five-minute."""
        return f"{_WORDS.get(self.minutes, self.minutes)}-minute"

    @property
    def slots(self) -> int:
        """Bars of a calendar day."""
        return 1440 // self.minutes

    def lasting(self, bars: float) -> float:
        """How many bars last as long as so many of five minutes."""
        return bars * (BAR_MINUTES / self.minutes)

    def rows(self, bars: int) -> int:
        """`lasting` as a whole number of rows; at least one, unless none is asked for."""
        return max(round(self.lasting(bars)), min(bars, 1))

    def check(self, ts: ArrayLike) -> None:
        """Raise ValueError where the bars that start at `ts` stand another distance apart."""
        found = Spacing.of(ts)
        if np.size(ts) > 1 and found != self:
            raise ValueError(
                f"expected bars of {self.minutes} minutes, found bars of {found.minutes}: ingest them with "
                f"bar_minutes={self.minutes}, or train a checkpoint with bar_minutes={found.minutes}"
            )

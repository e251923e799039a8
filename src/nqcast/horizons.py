"""Horizons by their names: 45m or 2h by the clock inside a session, close to its end, 1d and 5d over the break.

A name says everything, so names travel: in the columns of a feature table (target_45m), in a checkpoint's metadata, in
the rows of a forecast. What a name means is asked here.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import NamedTuple

from nqcast.constants import HORIZONS

DEFAULT: tuple[str, ...] = tuple(HORIZONS)
TARGET = "target_"  # before a horizon's name, the column of its outcomes
SESSION_MINUTES = 1380  # 23 hours, the longest session but for that of currencies
MOST_SESSIONS = 10


class Horizon(NamedTuple):
    """A horizon: `minutes` by the clock inside the session (0: to its end), or `sessions` later at the same hour."""

    name: str
    minutes: int
    sessions: int

    @property
    def by_clock(self) -> bool:
        """Whether it always lasts the same time and ends inside its session."""
        return self.minutes > 0

    @property
    def to_close(self) -> bool:
        """Whether it ends with the session."""
        return not self.minutes and not self.sessions

    def bars(self, bar_minutes: int) -> int:
        """How many bars it lasts at most: so many neighbouring outcomes overlap."""
        return (self.minutes or SESSION_MINUTES * max(self.sessions, 1)) // bar_minutes

    @property
    def within(self) -> int:
        """Minutes after which the outcome is known, whatever break lies between."""
        return self.minutes or 1440 * (self.most_days if self.sessions else 1)

    @property
    def most_days(self) -> int:
        """Calendar days between its two trading dates at most: weekends and two holidays."""
        return self.sessions + 2 * (self.sessions // 5 + 1) + 2

    @property
    def least(self) -> int:
        """Minutes of the session that must be left for it to have an outcome."""
        return 0 if self.sessions else self.minutes or 1


def horizon(name: str) -> Horizon:
    """What a name means; ValueError for a name that is none."""
    if name == "close":
        return Horizon(name, 0, 0)
    found = re.fullmatch(r"([1-9]\d{0,3})([mhd])", name)
    if found is None:
        raise ValueError(f"expected a horizon such as 45m, 2h, close or 1d, found {name!r}: name it by its length")
    count, unit = int(found[1]), found[2]
    if unit == "d":
        if count > MOST_SESSIONS:
            raise ValueError(f"expected at most {MOST_SESSIONS} sessions ahead, found {name!r}: take a shorter horizon")
        return Horizon(name, 0, count)
    minutes = count * (60 if unit == "h" else 1)
    if minutes >= SESSION_MINUTES:
        raise ValueError(
            f"expected minutes below a session of {SESSION_MINUTES}, found {name!r}: take fewer, close for the "
            "session's end, or 1d for the same hour of the next session"
        )
    return Horizon(name, minutes, 0)


def horizons(names: Iterable[str]) -> tuple[Horizon, ...]:
    """What each name means, in the order given."""
    return tuple(horizon(name) for name in names)


def root_weights(names: Iterable[str]) -> tuple[float, ...]:
    """One over the root of each horizon's length, of mean 1.

    Outcomes of neighbouring anchors overlap, at 4h by 47 bars of 48: the longer a horizon, the less its anchors say.
    """
    inverse = [one.bars(1) ** -0.5 for one in horizons(names)]
    return tuple(weight * len(inverse) / sum(inverse) for weight in inverse)


def check_multiples(names: Iterable[str], bar_minutes: int) -> None:
    """Raise ValueError for horizons by the clock that do not end with a bar."""
    known = tuple(names)
    between = [one.name for one in horizons(known) if one.minutes % bar_minutes]
    if between:
        others = "+".join(name for name in known if name not in between) or f"{2 * bar_minutes}m"
        raise ValueError(
            f"expected horizons that are a multiple of {bar_minutes} minutes, as bars are (bar_minutes), found "
            f"{', '.join(between)}: set horizons={others}, or finer bars"
        )


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Names from the shortest to the longest: by the clock, then the close, then over the break.

    Raises:
        ValueError: none is given, one is no horizon, or two last the same.
    """
    found = sorted(horizons(names), key=lambda one: (one.sessions, one.to_close, one.minutes))
    twice = [later.name for one, later in pairwise(found) if one[1:] == later[1:]]
    if twice or not found:
        raise ValueError(
            f"expected horizons of different lengths, found {f'{twice} twice' if twice else 'none'}: name each once"
        )
    return tuple(one.name for one in found)


def horizons_of(columns: Iterable[object]) -> tuple[str, ...]:
    """The horizons of a feature table by its columns, in their order."""
    return tuple(str(name).removeprefix(TARGET) for name in columns if str(name).startswith(TARGET))


def check_horizons(columns: Iterable[object], names: Iterable[str]) -> None:
    """Raise ValueError where a feature table with these columns was made for other horizons than `names`."""
    found, expected = horizons_of(columns), tuple(names)
    if found != expected:
        raise ValueError(
            f"expected features of the horizons {list(expected)}, found those of {list(found)}: run the features "
            f"pipeline with horizons={'+'.join(expected)}, or train with horizons={'+'.join(found)}"
        )


def target_names(columns: Iterable[object]) -> list[str]:
    """The columns of a feature table that hold outcomes."""
    return [f"{TARGET}{name}" for name in horizons_of(columns)]

"""Bad prints: a price that leaves the bars around it and is back at once.

High and low are asked one by one; open and close lie between them. What is large is said by the volatility of the hour
before, and of the same hour in the sessions before; at the minutes of announcements four times as much is allowed.
Nothing later than the return itself is looked at. At the newest bar, whose return back is still to come, only a
move that the exchange's own hourly limit forbids is no price.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import DAY_NS, MINUTE_NS
from nqcast.market.calendar import minute_of_day, nanoseconds

BAD_PRINT = "bad print: away from the bars around it, and back at once"
UNCONFIRMED = "newest bar: a move beyond the exchange's hourly limit"

_LEAST = 0.003  # of a log price: smaller excursions are never asked about
HOURLY_LIMIT = 0.035  # the exchange pauses index futures that move as far within an hour
_LONGEST = {1: 15, 5: 5}  # bars away, by spacing
_ANNOUNCED, _OPENING = 4.0, 3.0  # allowed times as much at announcements, and where a session opens or closes
_ANNOUNCEMENTS = (6 * 60 + 45, 7 * 60 + 30, 9 * 60, 13 * 60, 13 * 60 + 15)  # minutes of the day in exchange time
_HOUR, _SESSIONS = 60, 5


def bad_prints(joined: pd.DataFrame, multiple: float, spacing: int) -> dict[str, np.ndarray]:
    """Rows (N,) to quarantine, by reason.

    joined: the front contract's bars, adjusted, sorted by ts, with session_position.
    """
    found = np.zeros(len(joined), dtype=bool)
    high, low, close = (joined[name].to_numpy() for name in ("high", "low", "close"))
    high, low = (np.append(side, close[-1:]) for side in (high, low))  # the newest bar's way back may be its own close
    stamp, session = nanoseconds(joined["ts"]), joined["session_position"].to_numpy()
    least = np.exp(_LEAST)
    begins = np.flatnonzero((high[1:] > least * high[:-1]) | (low[:-1] > least * low[1:])) + 1
    for bars in range(1, _LONGEST[spacing] + 1):
        rows, away = _excursions(high, low, begins[begins + bars < len(high)], bars)
        allowed = np.sqrt(bars) * _noise(rows, stamp, close, session, spacing)
        crosses = session[rows - 1] != session[np.minimum(rows + bars, len(session) - 1)]
        allowed *= np.where(crosses, _OPENING, 1.0) * np.where(_announced(stamp[rows], bars, spacing), _ANNOUNCED, 1.0)
        for row in rows[away > multiple * allowed]:
            found[row : row + bars] = True
    if len(joined) > 1 and session[0] == session[1]:  # nothing stands before the first bar
        found[0] = max(np.log(high[0] / high[1]), np.log(low[1] / low[0])) > HOURLY_LIMIT
    newest = np.zeros(len(joined), dtype=bool)
    if len(joined) > 2 and session[-1] == session[-2] and stamp[-1] - stamp[-2] < 10 * spacing * MINUTE_NS:
        reach = max(np.log(high[-1] / close[-2]), np.log(close[-2] / low[-1]))
        newest[-1] = reach > HOURLY_LIMIT and not found[-2]
    return {BAD_PRINT: found, UNCONFIRMED: newest & ~found}


def _excursions(high: np.ndarray, low: np.ndarray, rows: np.ndarray, bars: int) -> tuple[np.ndarray, np.ndarray]:
    """Which rows begin excursions that last so many bars, and how far these go (log) beyond the nearer neighbour.

    An excursion is bars whose highs all lie above the highs of the bars before and after it, or whose lows lie below
    their lows: a vendor may open the bar after a bad print where that one closed.
    """
    run = rows[:, None] + np.arange(bars)
    top, bottom = np.maximum(high[rows - 1], high[rows + bars]), np.minimum(low[rows - 1], low[rows + bars])
    away = np.log(np.maximum(high[run].min(axis=1) / top, bottom / low[run].max(axis=1)))
    chosen = away > _LEAST
    return rows[chosen], away[chosen]


def _noise(rows: np.ndarray, stamp: np.ndarray, close: np.ndarray, session: np.ndarray, spacing: int) -> np.ndarray:
    """Mean absolute change of the log price per bar before each row: in the hour, or at its hour on the days before."""
    bars = max(_HOUR // spacing, 6)
    noise = np.full(len(rows), 2e-5)
    for k, row in enumerate(rows):
        middle = stamp[row] - np.arange(1, _SESSIONS + 1) * DAY_NS
        first, last = (np.searchsorted(stamp, middle + side * 30 * MINUTE_NS) for side in (-1, 1))
        days = [_mean(close, session, lo, hi) for lo, hi in zip(first, last, strict=True)]
        noise[k] = max(noise[k], _mean(close, session, max(row - bars, 0), row), float(np.mean(days)))
    return noise


def _mean(close: np.ndarray, session: np.ndarray, first: int, last: int) -> float:
    """Mean absolute change of the log price in rows [first, last), each cut at _LEAST, openings of sessions aside."""
    if last - first < 3:
        return 0.0
    change = np.abs(np.diff(np.log(close[first:last])))[session[first + 1 : last] == session[first : last - 1]]
    return float(np.minimum(change, _LEAST).mean()) if len(change) else 0.0


def _announced(stamp: np.ndarray, bars: int, spacing: int) -> np.ndarray:
    """Whether the bars from each stamp on hold a minute of announcements, or the one after."""
    minute, at = minute_of_day(stamp)[:, None], np.array(_ANNOUNCEMENTS)
    return np.asarray(((minute <= at + 1) & (minute + bars * spacing > at)).any(axis=1))

"""When each horizon of a forecast ends, as the calendar says before the session does."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.forecast.freshness import BAR
from nqcast.horizons import Horizon, horizons
from nqcast.market import calendar
from nqcast.market.config import IngestConfig


def target_times(
    bars: pd.Series, close: Iterable[pd.Timestamp], names: Iterable[str], ingest: IngestConfig
) -> list[list[pd.Timestamp]]:
    """The end of each horizon, a list for each bar that starts at `bars` (UTC) in a session that ends at `close`.

    NaT where a horizon by the clock, or to the close, does not end inside the session. Over the break it is the same
    hour of exchange time so many sessions later, or that session's close where that comes first.
    """
    known, ends = horizons(names), list(close)
    later = None
    if any(one.sessions for one in known):
        days = pd.Timedelta(days=max(one.most_days for one in known))
        first, last = bars.iloc[0], bars.iloc[-1] + days
        later = calendar.sessions_around(first, last, ingest.session_closes, ingest.instrument)
    return [[_end(start, stop, one, later) for one in known] for start, stop in zip(bars, ends, strict=True)]


def _end(start: pd.Timestamp, close: pd.Timestamp, horizon: Horizon, later: pd.DataFrame | None) -> Any:
    issued = start + BAR
    if not horizon.sessions:
        end = issued + pd.Timedelta(minutes=horizon.minutes) if horizon.by_clock else close
        return end if issued < end <= close else pd.NaT
    assert later is not None
    row = int(calendar.assign_sessions(pd.Series([start]), later)[0])
    zone = EXCHANGE_TIMEZONE
    since = issued.tz_convert(zone).tz_localize(None) - later["session"].iloc[row]
    session = later.iloc[min(row + horizon.sessions, len(later) - 1)]
    local = (session["session"] + since).tz_localize(zone, ambiguous=True, nonexistent="shift_forward")
    return min(local.tz_convert("UTC"), session["close"])

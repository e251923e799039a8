"""The data report: what an ingest found, as JSON-able figures."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.calendar import nanoseconds
from nqcast.market.config import BAR_MINUTES
from nqcast.market.schema import MINUTE_NS

_BAR = pd.Timedelta(minutes=BAR_MINUTES)


def session_report(bars: pd.DataFrame, sessions: pd.DataFrame, least_minutes: int) -> dict[str, Any]:
    """Bars per session against the calendar.

    For each session between the first and last bar: slots the calendar expects (halt left out), slots that traded, and
    stretches of at least `least_minutes` without a trade (start, end UTC) outside the halt.
    """
    span = sessions[sessions["session"].between(bars["session"].iloc[0], bars["session"].iloc[-1])]
    halt = (span["halt_end"] - span["halt_start"]).fillna(pd.Timedelta(0))
    expected = (span["close"] - span["open"] - halt).dt.total_seconds() / (60 * BAR_MINUTES)
    day = bars["session"].to_numpy()
    open_rows = ~bars["halt"].to_numpy()
    traded = bars["traded"].to_numpy()
    counts = pd.Series(traded & open_rows).groupby(day).sum()
    present = counts.reindex(span["session"], fill_value=0).to_numpy()
    return {
        "count": len(span),
        "without_bars": [str(session.date()) for session in span["session"][present == 0]],
        "per_session": [
            {"session": str(session.date()), "expected": int(want), "traded": int(have)}
            for session, want, have in zip(span["session"], expected, present, strict=True)
        ],
        "missing_stretches": _missing_stretches(bars, span, least_minutes),
    }


def _missing_stretches(bars: pd.DataFrame, span: pd.DataFrame, least_minutes: int) -> list[dict[str, Any]]:
    """Stretches without a trade, from the calendar's open to its close, the halt as if it had traded."""
    active = bars.loc[bars["traded"] | bars["halt"], ["ts", "session"]]
    ends = span[span["session"].isin(active["session"])]
    marks = pd.concat(
        [
            active,
            pd.DataFrame({"ts": ends["open"] - _BAR, "session": ends["session"]}),
            pd.DataFrame({"ts": ends["close"], "session": ends["session"]}),
        ]
    ).sort_values("ts", kind="stable")
    ts, session = nanoseconds(marks["ts"]), marks["session"].to_numpy()
    minutes = np.diff(ts) // MINUTE_NS - BAR_MINUTES
    rows = np.flatnonzero((minutes >= least_minutes) & (session[1:] == session[:-1]))
    return [
        {
            "session": str(pd.Timestamp(session[row]).date()),
            "start": f"{pd.Timestamp(ts[row]) + _BAR}+00:00",
            "end": f"{pd.Timestamp(ts[row + 1])}+00:00",
            "minutes": int(minutes[row]),
        }
        for row in rows
    ]

"""The data report: what an ingest found, as JSON-able figures."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from nqcast.constants import MINUTE_NS
from nqcast.market.calendar import nanoseconds
from nqcast.market.checks import Underway
from nqcast.market.checks.gaps import explained
from nqcast.market.config import IngestConfig
from nqcast.spacing import Spacing


def make_report(
    underway: Underway, bars: pd.DataFrame, quarantine: pd.DataFrame, config: IngestConfig
) -> dict[str, Any]:
    """All figures of an ingest, and their text."""
    contracts, known = underway.contracts, underway.rows.attrs
    zone = f"read in {config.naive_timezone}" if known.get("naive") else "in the zone that the file names"
    report = {
        "source": str(known.get("source", "")),
        **underway.counts,
        "doubts": underway.doubts,
        "first_bar": bars["ts"].iloc[0].isoformat(),
        "last_bar": bars["ts"].iloc[-1].isoformat(),
        "bars": len(bars),
        "traded_bars": int(bars["traded"].sum()),
        "quarantined": len(quarantine),
        "quarantined_by_reason": {str(key): int(n) for key, n in quarantine["reason"].value_counts().items()},
        "product": contracts.product,
        "contracts": list(contracts.names) if contracts.known else [],
        "rolls": len([entry for entry in underway.ledger if entry["rule"] not in ("jump", "unadjusted")]),
        "stamps": f"{config.stamps}s of bars, {zone}",
        "volume": f"{bars['volume'].sum():,} contracts" if "volume" in underway.rows else "left out",
        "notes": list(known.get("notes", [])),
        "questions_to_the_calendar": underway.questions,
        "sessions": session_report(bars, underway.sessions, config.missing_stretch_minutes, config.spacing),
    }
    report["text"] = report_text(report, config.spacing.word)
    return report


def session_report(bars: pd.DataFrame, sessions: pd.DataFrame, least_minutes: int, spacing: Spacing) -> dict[str, Any]:
    """Bars per session against the calendar.

    For each session between the first and last bar: slots the calendar expects (halt left out), slots that traded, and
    every missing stretch with its explanation (`nqcast.market.checks.gaps`); inside sessions those of at least
    `least_minutes` without a trade (start, end UTC) outside the halt.
    """
    span = sessions[sessions["session"].between(bars["session"].iloc[0], bars["session"].iloc[-1])]
    halt = (span["halt_end"] - span["halt_start"]).fillna(pd.Timedelta(0))
    expected = (span["close"] - span["open"] - halt).dt.total_seconds() / (60 * spacing.minutes)
    day = bars["session"].to_numpy()
    open_rows = ~bars["halt"].to_numpy()
    traded = bars["traded"].to_numpy()
    counts = pd.Series(traded & open_rows).groupby(day).sum()
    present = counts.reindex(span["session"], fill_value=0).to_numpy()
    absent = [str(session.date()) for session in span["session"][present == 0]]
    stretches = explained(bars, span, _missing_stretches(bars, span, least_minutes, spacing), absent)
    return {
        "count": len(span),
        "without_bars": absent,
        "per_session": [
            {"session": str(session.date()), "expected": int(want), "traded": int(have)}
            for session, want, have in zip(span["session"], expected, present, strict=True)
        ],
        "missing_stretches": stretches,
        "missing_by_explanation": dict(Counter(str(stretch["explanation"]) for stretch in stretches)),
    }


def _missing_stretches(
    bars: pd.DataFrame, span: pd.DataFrame, least_minutes: int, spacing: Spacing
) -> list[dict[str, Any]]:
    """Stretches without a trade, from the calendar's open to its close, the halt as if it had traded."""
    active = bars.loc[bars["traded"] | bars["halt"], ["ts", "session"]]
    ends = span[span["session"].isin(active["session"])]
    marks = pd.concat(
        [
            active,
            pd.DataFrame({"ts": ends["open"] - spacing.bar, "session": ends["session"]}),
            pd.DataFrame({"ts": ends["close"], "session": ends["session"]}),
        ]
    ).sort_values("ts", kind="stable")
    ts, session = nanoseconds(marks["ts"]), marks["session"].to_numpy()
    minutes = np.diff(ts) // MINUTE_NS - spacing.minutes
    rows = np.flatnonzero((minutes >= least_minutes) & (session[1:] == session[:-1]))
    return [
        {
            "session": str(pd.Timestamp(session[row]).date()),
            "start": f"{pd.Timestamp(ts[row]) + spacing.bar}+00:00",
            "end": f"{pd.Timestamp(ts[row + 1])}+00:00",
            "minutes": int(minutes[row]),
        }
        for row in rows
    ]


def report_text(report: dict[str, Any], word: str) -> str:
    """The report, of bars such as `word` says, in 20 lines of 80 columns: what came, was used, is missing, is odd."""
    sessions = report["sessions"]
    expected = sum(entry["expected"] for entry in sessions["per_session"])
    traded = sum(entry["traded"] for entry in sessions["per_session"])
    missing = ", ".join(f"{n} of {why}" for why, n in sessions["missing_by_explanation"].items())
    lines = [
        f"{report['product'] or 'bars'} {report['first_bar'][:16]} to {report['last_bar'][:16]} UTC",
        _line("rows", report["rows_in"], f"{report['spacing_minutes']}-minute bars of {_contracts(report)}"),
        f"  stamps: {report['stamps']}",
        f"  volume: {report['volume']}",
        *(f"  {note}" for note in report["notes"][:_MOST]),
        _line("used", report["rows_used"], f"after {report['rolls']} rolls"),
        _line("out of order", report["rows_out_of_order"]),
        _line("identical duplicates", report["duplicates_dropped"], "dropped"),
        _line("fillers", report["zero_volume_dropped"], "without volume and range: no trade"),
        _line("off the tick", report["off_tick_prices"], "kept"),
        _line("quarantined", report["quarantined"]),
        *(f"  {count:,} {reason}" for reason, count in report["quarantined_by_reason"].items()),
        *(f"odd: {doubt['check']}: {doubt['detail']}" for doubt in report["doubts"]),
        _line(f"{word} bars", report["bars"], f"in {sessions['count']} sessions"),
        _line("  traded", traded, f"of {expected} expected ({traded / max(expected, 1):.1%})"),
        f"  missing stretches: {missing}" if missing else "",
        *_longest(sessions["missing_stretches"], report["first_bar"], report["last_bar"]),
        *(f"question: trading at {q['start']} to {q['end']}" for q in report["questions_to_the_calendar"][:_MOST]),
    ]
    wrapped = [part for line in lines for part in textwrap.wrap(line, _COLUMNS, subsequent_indent="    ")]
    more = [f"and {len(wrapped) - _LINES + 1} lines more"] if len(wrapped) > _LINES else []
    return "\n".join([*wrapped[: _LINES - len(more)], *more])


_COLUMNS, _LINES, _MOST = 80, 20, 3


def _line(name: str, count: int, note: str = "") -> str:
    return f"{name:<20} {count:>9,}  {note}".rstrip() if count else ""


def _contracts(report: dict[str, Any]) -> str:
    names = report["contracts"]
    if len(names) == 1:
        return str(names[0])
    return f"{len(names)} contracts, {names[0]} to {names[-1]}" if names else "unnamed contracts"


def _longest(stretches: list[dict[str, Any]], first: str, last: str) -> list[str]:
    """The longest stretches between the first bar and the last that neither calendar nor halt explains."""
    inside = [stretch for stretch in stretches if first <= stretch["start"].replace(" ", "T") <= last]
    open_ = [stretch for stretch in inside if stretch["explanation"] in ("outage", "unknown")]
    longest = sorted(open_, key=lambda stretch: -stretch["minutes"])[:_MOST]
    cause = [f"{s['explanation']}: {s['detail'].partition(':')[0]}" for s in longest]
    return [f"    {s['start'][:16]}  {s['minutes']:>5} min  {why}" for s, why in zip(longest, cause, strict=True)]

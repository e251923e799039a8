"""Every missing stretch has its explanation, and the report can be read."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars

CONFIG = IngestConfig()


def explanations(report: dict, *kinds: str) -> list[tuple[str, int]]:
    listed = report["sessions"]["missing_stretches"]
    return [(s["session"], s["minutes"]) for s in listed if s["explanation"] in kinds]


def test_holidays_and_early_closes_are_those_of_the_calendar(make_bars) -> None:
    report = build_bars(make_bars(date(2016, 11, 21), date(2016, 12, 28)), CONFIG).report
    assert explanations(report, "holiday") == [("2016-12-26", 1440)]
    closes = [day for day, _ in explanations(report, "early close")]
    assert closes == ["2016-11-24", "2016-11-25"]
    assert explanations(report, "outage", "unknown") == []


@pytest.mark.parametrize(
    ("session", "start", "end", "explanation"),
    [
        ("2019-02-27", "2019-02-27 00:35", "2019-02-27 03:50", "outage"),
        ("2020-03-12", "2020-03-12 13:30", "2020-03-12 14:00", "halt"),
    ],
    ids=["the exchange's systems", "a circuit breaker"],
)
def test_dated_stops_of_the_exchange_are_known(make_bars, session: str, start: str, end: str, explanation: str) -> None:
    day = date.fromisoformat(session)
    raw = make_bars(day - pd.Timedelta(days=2), day + pd.Timedelta(days=2), contract=None)
    silent = raw["ts"].between(pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC"), inclusive="left")
    listed = build_bars(raw[~silent], CONFIG).report["sessions"]["missing_stretches"]
    (found,) = [s for s in listed if s["session"] == session and s["start"][:16] == start]
    assert found["explanation"] == explanation


def test_silence_is_unknown_where_the_market_is_often_silent_and_an_outage_where_it_never_is(make_bars) -> None:
    raw = make_bars(date(2016, 9, 12), date(2016, 9, 30))
    local = raw["ts"].dt.tz_convert("America/Chicago")
    night = local.dt.hour.isin([1, 2, 3])
    thin = raw[~night | (local.dt.minute // 5 % 6 == 0)]
    local = local[thin.index]
    gone = (local.dt.date == date(2016, 9, 20)) & (local.dt.hour.isin([2]) | local.dt.hour.isin([10]))
    report = build_bars(thin[~gone], CONFIG).report
    assert ("2016-09-20", 60) in explanations(report, "outage")
    assert all(minutes < 100 for _, minutes in explanations(report, "unknown"))
    assert len(explanations(report, "outage")) == 1


def test_the_report_reads_as_a_table(week: pd.DataFrame) -> None:
    raw = week.copy()
    raw.loc[77, "low"] = -1.0
    text = build_bars(raw, CONFIG).report["text"]
    assert "price zero or negative" in text and "missing stretches: 1 of halt" in text
    assert f"{len(week):,}" in text and "NQZ6" in text
    assert all(len(line) < 140 for line in text.splitlines())

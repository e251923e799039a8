"""Bars out of session, questions to the calendar, the data report and the errors of an unusable frame."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, time

import pandas as pd
import pytest

from nqcast.market.checks.rows import AT_CLOSE
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.schema import BARS

CONFIG = IngestConfig()


def _extra(week: pd.DataFrame, start: str, minutes: int) -> pd.DataFrame:
    """The week with copies of its first bar at `minutes` consecutive minutes from `start` (UTC)."""
    stamps = pd.date_range(start, periods=minutes, freq="min", tz="UTC").as_unit("ns")
    added = week.iloc[[0] * minutes].assign(ts=stamps)
    return pd.concat([week, added], ignore_index=True)


def test_four_minutes_in_the_daily_break_are_strays(week: pd.DataFrame) -> None:
    found = build_bars(_extra(week, "2016-09-20 21:10", 4), CONFIG)
    assert found.report["quarantined_by_reason"] == {"out of session": 4}
    pd.testing.assert_frame_equal(found.bars, build_bars(week, CONFIG).bars)


def test_five_minutes_after_a_close_are_kept_in_their_session_and_asked_about(week: pd.DataFrame, caplog) -> None:
    found = build_bars(_extra(week, "2016-09-20 21:00", 5), CONFIG)
    assert len(found.quarantine) == 0
    (question,) = found.report["questions_to_the_calendar"]
    assert question == {"start": "2016-09-20T21:00:00+00:00", "end": "2016-09-20T21:05:00+00:00", "minutes": 5}
    last = found.bars[found.bars["session"] == "2016-09-20"].iloc[-1]
    assert last["ts"] == pd.Timestamp("2016-09-20 21:00", tz="UTC") and last["traded"]
    assert "a question to the calendar" in caplog.text


def test_an_answered_question_is_no_longer_asked(week: pd.DataFrame) -> None:
    answered = IngestConfig(session_closes={date(2016, 9, 20): time(16, 15)})
    found = build_bars(_extra(week, "2016-09-20 21:00", 5), answered)
    assert found.report["questions_to_the_calendar"] == [] and len(found.quarantine) == 0
    found = build_bars(week, IngestConfig(session_closes={date(2016, 9, 23): time(15, 59)}))
    assert found.report["quarantined_by_reason"] == {AT_CLOSE: 1}


def test_stamps_in_the_wrong_zone_are_an_error_that_names_the_zone(make_bars) -> None:
    raw = make_bars(date(2016, 9, 5), date(2016, 9, 30))
    for hours in (-6, -1, 1, 5):
        with pytest.raises(ValueError, match="check the time zone of the stamps"):
            build_bars(raw.assign(ts=raw["ts"] + pd.Timedelta(hours=hours)), CONFIG)


def test_the_report_counts_what_the_calendar_expects_and_lists_what_is_missing(week: pd.DataFrame) -> None:
    outage = week["ts"].between(*pd.to_datetime(["2016-09-20 08:00", "2016-09-20 09:59"], utc=True))
    day = week["ts"].between(*pd.to_datetime(["2016-09-21 22:00", "2016-09-22 21:00"], utc=True))
    report = build_bars(week[~outage & ~day], CONFIG).report
    sessions = report["sessions"]
    assert {entry["expected"] for entry in sessions["per_session"]} == {273}  # 23 h of 5 minutes less the halt
    traded = {entry["session"]: entry["traded"] for entry in sessions["per_session"]}
    assert traded == {
        "2016-09-19": 273, "2016-09-20": 249, "2016-09-21": 273, "2016-09-22": 0, "2016-09-23": 273,
    }  # fmt: skip
    assert sessions["without_bars"] == ["2016-09-22"]
    halts, silence, absent = ([stretch] for stretch in sessions["missing_stretches"])
    assert (halts[0]["explanation"], halts[0]["minutes"]) == ("halt", 15)
    assert [(s["start"], s["end"], s["minutes"], s["explanation"]) for s in silence] == [
        ("2016-09-20 08:00:00+00:00", "2016-09-20 10:00:00+00:00", 120, "outage")
    ]
    assert [(s["session"], s["minutes"], s["explanation"]) for s in absent] == [("2016-09-22", 1380, "unknown")]
    assert sessions["missing_by_explanation"] == {"halt": 1, "outage": 1, "unknown": 1}
    assert report["rows_in"] == (~outage & ~day).sum() == report["rows_used"]


def test_the_halt_does_not_make_a_missing_stretch_longer(week: pd.DataFrame) -> None:
    local = week["ts"].dt.tz_convert("America/Chicago").dt.strftime("%H:%M")
    report = build_bars(week[~local.between("14:50", "15:14")], CONFIG).report
    assert report["sessions"]["missing_by_explanation"] == {"halt": 1}


def test_report_and_ledger_are_plain_json_and_bars_fit_their_schema(two_contracts: pd.DataFrame) -> None:
    found = build_bars(two_contracts, CONFIG)
    for value in (found.report, found.roll_ledger):
        assert json.loads(json.dumps(value)) == value
    BARS.validate(found.bars)


def test_prices_off_the_tick_are_counted_and_kept(week: pd.DataFrame) -> None:
    raw = week.copy()
    raw.loc[10:12, "high"] += 0.1
    found = build_bars(raw, CONFIG)
    assert found.report["off_tick_prices"] == 3 and len(found.quarantine) == 0


@pytest.mark.parametrize("minutes", [15, 30, 60])
def test_other_bar_spacings_are_stated_and_refused(week: pd.DataFrame, minutes: int) -> None:
    raw = week.set_index("ts").resample(f"{minutes}min").first().dropna().reset_index()
    with pytest.raises(ValueError, match=rf"bars every 1 or 5 minutes, found one every {minutes} minutes"):
        build_bars(raw, CONFIG)
    seconds = week.assign(ts=week["ts"].iloc[0] + pd.to_timedelta(range(len(week)), unit="s"))
    with pytest.raises(ValueError, match="found one every 1 seconds"):
        build_bars(seconds, CONFIG)


def test_a_missing_column_says_which_and_what_to_do(week: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match=r"expected a column 'volume', found .*set volume to false"):
        build_bars(week.drop(columns="volume"), CONFIG)
    with pytest.raises(ValueError, match=r"expected a column 'close'.*closest: 'closes'"):
        build_bars(week.rename(columns={"close": "closes"}), CONFIG)


def test_prices_that_are_no_numbers_are_shown(week: pd.DataFrame) -> None:
    raw = week.astype({"open": object})
    raw.loc[7, "open"] = "47x1.25"
    with pytest.raises(ValueError, match=r"numbers in column 'open', found '47x1\.25' in row 8 \(.*; 1 such rows\)"):
        build_bars(raw, CONFIG)


def test_stamps_that_are_no_times_or_have_no_zone_are_errors(week: pd.DataFrame) -> None:
    with pytest.raises(
        ValueError, match=r"expected time stamps in column 'ts' in one clear format, found text such as '0'"
    ):
        build_bars(week.assign(ts=range(len(week))), CONFIG)
    with pytest.raises(ValueError, match=r"without one: set the ingest parameter naive_timezone"):
        build_bars(week.assign(ts=week["ts"].dt.tz_localize(None)), CONFIG)


def test_too_few_rows_are_an_error(week: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="found no rows"):
        build_bars(week.head(0), CONFIG)
    with pytest.raises(ValueError, match="at least two bars, found 1"):
        build_bars(week.head(1), CONFIG)
    with pytest.raises(ValueError, match="at least 300 usable bars, found 299: bring more bars"):
        build_bars(week.head(299), CONFIG)
    assert len(build_bars(week.head(300), CONFIG).bars) > 50


def test_a_file_of_rejected_rows_alone_is_an_error(week: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="none that can be believed"):
        build_bars(week.assign(low=-1.0), CONFIG)


def test_the_parameters_refuse_what_cannot_be_meant() -> None:
    with pytest.raises(ValueError, match="naive_timezone"):
        IngestConfig(naive_timezone="Chicago")
    with pytest.raises(ValueError, match="max_quarantined_share"):
        IngestConfig(max_quarantined_share=1.5)
    with pytest.raises(ValueError, match="extra"):
        IngestConfig(volumes=True)  # type: ignore[call-arg]


def test_the_parameters_import_no_heavy_library() -> None:
    heavy = "{'torch', 'mlflow', 'matplotlib', 'databento', 'pandas'}"
    code = f"import sys, nqcast.market.config; assert not {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)

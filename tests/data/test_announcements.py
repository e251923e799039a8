"""The list of announcements against the agencies' own rules, and what a horizon is told of it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import HORIZONS, TARGETS
from nqcast.data.announcements import announcements, announcements_ahead, own_announcements
from nqcast.data.config import ScaleConfig
from nqcast.data.seasonal_har import SeasonalHAR, scale_from_state
from nqcast.data.splits import SplitConfig, make_splits, positions
from nqcast.hooks.parameters import _check_events
from nqcast.parameters import ParameterError

KINDS = ("fomc", "employment")


def bars_at(ts: pd.Series | pd.DatetimeIndex) -> pd.DataFrame:
    """As much of a feature table as announcements are told by."""
    return pd.DataFrame({"ts": ts, **dict.fromkeys(TARGETS, 0.0)})


def local_days(kind: str) -> pd.Series:
    table = announcements()
    return table.loc[table["kind"] == kind, "ts"].dt.tz_convert("America/New_York")


def employment_by_rule(year: int, month: int) -> pd.Timestamp:
    """Third Friday after the week, Sunday to Saturday, that holds the 12th of the month before."""
    twelfth = pd.Timestamp(year, month, 12) - pd.DateOffset(months=1)
    saturday = twelfth + pd.Timedelta(days=(5 - twelfth.day_of_week) % 7)
    return saturday + pd.Timedelta(days=20)


def test_there_are_eight_decisions_a_year_on_tuesdays_to_thursdays_but_for_the_one_cancelled() -> None:
    days = local_days("fomc")
    assert days.dt.day_of_week.between(1, 3).all()
    counts = days.dt.year.value_counts().to_dict()
    assert counts == {year: 7 if year == 2020 else 8 for year in range(2008, 2028)}
    assert (days.dt.strftime("%H:%M")[days >= "2013-03-01"] == "14:00").all()
    known = {"2015-12-16", "2016-06-15", "2016-11-02", "2016-12-14"}  # the rise of 2015, and meetings of 2016
    assert known <= set(days.dt.strftime("%Y-%m-%d"))


@pytest.mark.parametrize("kind", ["employment", "cpi"])
def test_monthly_reports_come_once_a_month_at_half_past_eight(kind: str) -> None:
    days = local_days(kind)
    assert (days.dt.strftime("%H:%M") == "08:30").all() and (days.dt.day_of_week < 5).all()
    per_year = days.dt.year.value_counts().to_dict()
    assert per_year == {year: 11 if year == 2025 else 12 for year in range(2008, 2027)}  # October 2025: no report
    assert days.diff().dropna().dt.days.between(14, 80).all()


def test_employment_follows_the_bureaus_rule_but_for_holidays_new_year_and_shutdowns() -> None:
    days = local_days("employment").dt.tz_localize(None).dt.normalize()
    off = [day for day in days if day not in (employment_by_rule(day.year, day.month), _next_week_of_january(day))]
    holidays = {f"{year}-07-0{day}" for year, day in
                ((2008, 3), (2009, 2), (2014, 3), (2015, 2), (2020, 2), (2025, 3), (2026, 2))}  # fmt: skip
    shutdowns = {"2013-10-22", "2013-11-08", "2025-11-20", "2025-12-16", "2026-02-11"}
    assert {str(day.date()) for day in off} == holidays | shutdowns


def _next_week_of_january(day: pd.Timestamp) -> pd.Timestamp | None:
    """Where the rule names one of the first days of January, the report waits a week."""
    rule = employment_by_rule(day.year, day.month)
    return rule + pd.Timedelta(weeks=1) if day.month == 1 and rule.day <= 3 else None


@pytest.mark.parametrize("utc", ["2016-03-16 18:00", "2016-12-14 19:00"], ids=["summer", "winter"])
def test_a_horizon_holds_what_comes_from_its_first_instant_on_and_before_its_last(utc: str) -> None:
    """The decision comes at 13:00 exchange time, summer and winter: as the bar of that stamp begins."""
    decision = pd.Timestamp(utc, tz="UTC")
    starts = pd.Series(pd.date_range(decision - pd.Timedelta("5h"), decision + pd.Timedelta("10min"), freq="5min"))
    ahead = announcements_ahead(bars_at(starts), ["fomc"])
    issued = starts + pd.Timedelta("5min")
    expected = [(issued <= decision) & (decision < issued + pd.Timedelta(minutes=m)) for m in HORIZONS.values()]
    np.testing.assert_array_equal(ahead, np.stack(expected, axis=1))
    last = int(np.flatnonzero(ahead[:, 0])[-1])
    assert starts[last] == decision - pd.Timedelta("5min")  # the bar that ends as it comes still has it ahead


def test_kinds_stand_one_after_the_other() -> None:
    ts = bars_at(pd.date_range("2016-11-02", "2016-11-05", freq="5min", tz="UTC"))  # a decision and a report
    both = announcements_ahead(ts, KINDS)
    np.testing.assert_array_equal(both, np.hstack([announcements_ahead(ts, [kind]) for kind in KINDS]))
    assert both.sum(axis=0).tolist() == [3, 6, 12, 24, 48] * 2


def test_bars_after_the_lists_end_are_named(caplog: pytest.LogCaptureFixture) -> None:
    ts = bars_at(pd.date_range("2030-01-01", periods=3, freq="5min", tz="UTC"))
    with caplog.at_level(logging.WARNING):
        assert not announcements_ahead(ts, ["fomc"]).any()
        announcements_ahead(ts, ["fomc"])
    told = "3 bars lie outside of the listed fomc announcements, 2008-01-30 to 2027-12-08"
    assert caplog.text.count(told) == 1  # however often the same bars are looked at


def test_the_scale_stays_as_it_is_and_its_state_gains_the_announcements(features: pd.DataFrame) -> None:
    train = positions(make_splits(features, SplitConfig(warmup_bars=600)), "train")
    plain, told = (SeasonalHAR(ScaleConfig(announcements=kinds)).fit(features, train) for kinds in ((), KINDS))
    before, after = plain.describe(features), told.describe(features)
    np.testing.assert_array_equal(before.scale_NH, after.scale_NH)
    n, extra = plain.n_state, len(KINDS) * len(HORIZONS)
    assert told.n_state == n + extra
    np.testing.assert_array_equal(before.state_NK, after.state_NK[:, :n])
    high = after.state_NK[:, n:] > after.state_NK[:, n:].min(axis=0)
    np.testing.assert_array_equal(high, announcements_ahead(features, KINDS) > 0)
    back = scale_from_state(*told.state())
    np.testing.assert_array_equal(back.describe(features).state_NK, after.state_NK)


def test_a_constant_scale_has_no_predictors_to_set_them_beside() -> None:
    with pytest.raises(ValueError, match="kind=constant: leave them out"):
        ScaleConfig(kind="constant", announcements=KINDS)


def test_text_stands_for_a_list_which_the_command_line_cannot_give() -> None:
    assert ScaleConfig(announcements="fomc+cpi").announcements == ("fomc", "cpi")
    assert ScaleConfig(announcements="none").announcements == ()
    with pytest.raises(ValueError, match="announcements"):
        ScaleConfig(announcements="fomc+opec")


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of events as a user writes it, inside the project."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "opec.csv").write_text("date,time,kind\n2016-03-15,10:00,opec\n2016-02-17,15:30,opec\n")
    return "mine/opec.csv"


def test_a_file_of_ones_own_is_one_more_kind_for_the_scale_and_its_forecasts(
    features: pd.DataFrame, events: str
) -> None:
    train = positions(make_splits(features, SplitConfig(warmup_bars=600)), "train")
    plain = SeasonalHAR(ScaleConfig()).fit(features, train)
    told = SeasonalHAR(ScaleConfig(announcements=f"fomc+{events}")).fit(features, train)
    ahead = told.describe(features).state_NK[:, plain.n_state + 5 :]
    issued = features["ts"] + pd.Timedelta("5min")
    times = pd.to_datetime(["2016-02-17 20:30", "2016-03-15 14:00"], utc=True)  # New York in winter and in summer
    for h, minutes in enumerate(HORIZONS.values()):
        ends = issued + pd.Timedelta(minutes=minutes)
        expected = np.any([(issued <= time) & (time < ends) for time in times], axis=0)
        assert expected.any()
        np.testing.assert_array_equal(ahead[:, h] > ahead[:, h].min(), expected)
    arrays, scalars = told.state()
    np.testing.assert_array_equal(scale_from_state(arrays, scalars).describe(features).state_NK[:, -5:], ahead)
    Path(events).write_text("date,time,kind\n2016-02-17,15:30,opec\n")
    again = SeasonalHAR(ScaleConfig(announcements=f"fomc+{events}")).fit(features, train).state()[1]
    assert again["events"] != scalars["events"]  # another file is another run
    Path(events).unlink()
    with pytest.raises(ValueError, match=r"found none at mine/opec\.csv"):
        scale_from_state(arrays, scalars).describe(features)


@pytest.mark.parametrize(
    ("text", "said"),
    [("date,kind\n2016-03-15,opec\n", "the columns date, kind and 1 rows"), ("date,time,kind\n", "and 0 rows"),
     ("date,time,kind\n2016-03-15,10:00,a\n15.3.2016,10:00,a\n", r"'15\.3\.2016 10:00' in its row 3"),
     ("date,time,kind\n2016-03-13,02:30,a\n", "in its row 2")],
)  # fmt: skip
def test_a_file_that_holds_no_dates_is_refused_before_anything_runs(text: str, said: str, events: str) -> None:
    Path(events).write_text(text)
    with pytest.raises(ParameterError, match=said):
        _check_events(events)
    with pytest.raises(ValueError, match="inside the project"):
        ScaleConfig(announcements="../opec.csv")
    with pytest.raises(ValueError, match="CSV files of your own"):
        ScaleConfig(announcements="opec")


def test_a_file_with_semicolons_and_capitals_is_read_all_the_same(events: str) -> None:
    before = own_announcements(events)
    Path(events).write_text(Path(events).read_text().replace(",", ";").replace("date;time;kind", "Date; Time; What"))
    pd.testing.assert_frame_equal(own_announcements(events), before)


def test_fields_in_quotation_marks_may_hold_what_parts_the_others(tmp_path: Path) -> None:
    """As exports write them that quote every field, with a comma in the name of an event that stands first."""
    plain, quoted = tmp_path / "plain.csv", tmp_path / "quoted.csv"
    plain.write_text("date,time\n2016-01-20,08:30\n2016-02-19,08:30\n")
    quoted.write_text('"kind","date","time"\n"CPI, core","2016-01-20","08:30"\n"CPI; all","2016-02-19","08:30"\n')
    assert own_announcements(str(quoted))["ts"].tolist() == own_announcements(str(plain))["ts"].tolist()

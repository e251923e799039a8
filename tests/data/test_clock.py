"""The clock of a bar in exchange time, against what pandas reads off local stamps, and across changes of the clock."""

import pandas as pd

from nqcast.data.clock import clock_columns


def add_clock(frame):
    return frame.assign(**clock_columns(frame["ts"]))


def clock_of(*stamps: str) -> pd.DataFrame:
    return add_clock(pd.DataFrame({"ts": pd.to_datetime(list(stamps), utc=True)}))


def test_the_clock_equals_what_pandas_reads_off_the_local_stamps(bars):
    local = bars["ts"].dt.tz_convert("America/Chicago")
    clock = add_clock(bars)
    assert (clock["bar_in_day"] == (local.dt.hour * 60 + local.dt.minute) // 5).all()
    assert (clock["day_of_week"] == local.dt.day_of_week).all()
    assert (clock["day_of_month"] == local.dt.day).all()
    assert (clock["day_of_year"] == local.dt.day_of_year).all()


def test_the_opening_is_one_slot_before_and_after_the_change_to_summer_time():
    slots = clock_of("2016-03-11 14:30", "2016-03-14 13:30", "2016-11-04 13:30", "2016-11-07 14:30")["bar_in_day"]
    assert slots.tolist() == [8 * 12 + 6] * 4


def test_a_leap_year_ends_on_day_366_in_exchange_time():
    clock = clock_of("2017-01-01 05:59", "2017-01-01 06:00")
    assert clock["day_of_year"].tolist() == [366, 1]
    assert clock["day_of_month"].tolist() == [31, 1]
    assert clock["day_of_week"].tolist() == [5, 6]


def test_stamps_kept_in_microseconds_or_another_zone_read_the_same(bars):
    coarse = bars.assign(ts=bars["ts"].dt.tz_convert("Asia/Tokyo").dt.as_unit("us"))
    assert add_clock(coarse)["bar_in_day"].equals(add_clock(bars)["bar_in_day"])

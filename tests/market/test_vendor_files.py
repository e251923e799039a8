"""Files as they come in the wild: each meets the right bars or one clear error."""

from __future__ import annotations

from datetime import date
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nqcast.market.calendar import trading_sessions
from nqcast.market.checks import rows as hygiene
from nqcast.market.checks import series as doubts
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.schema import PRICES
from nqcast.market.vendor import read_bars

CONFIG = IngestConfig()
NAMES = ["ts", *PRICES, "volume"]


@pytest.fixture(scope="module")
def month(make_bars) -> pd.DataFrame:
    """NQZ6, twenty-odd sessions."""
    return make_bars(date(2016, 9, 1), date(2016, 9, 30))


def written(frame: pd.DataFrame, file: Path, **options) -> pd.DataFrame:
    """The bars of `frame` once they have been a CSV file."""
    frame.to_csv(file, **{"index": False, **options})
    return build_bars(read_bars(file), IngestConfig(naive_timezone="UTC")).bars


# Spellings


def test_databento_csv_with_spreads_and_combinations_gives_the_outrights(two_contracts, tmp_path: Path) -> None:
    spread = two_contracts.iloc[::40].assign(contract="NQU6-NQZ6", open=-5.0, high=-4.5, low=-5.5, close=-5.0)
    fly = two_contracts.iloc[::50].assign(contract="NQ:BF U6-Z6-H7", open=1.0, high=1.0, low=1.0, close=1.0)
    raw = pd.concat([two_contracts, spread, fly]).sort_values("ts", kind="stable", ignore_index=True)
    vendor = raw.rename(columns={"ts": "ts_event", "contract": "symbol"})
    vendor.insert(1, "rtype", 33)
    vendor.insert(2, "publisher_id", 1)
    vendor.insert(3, "instrument_id", pd.factorize(vendor["symbol"])[0] + 7000)
    vendor["ts_event"] = vendor["ts_event"].dt.strftime("%Y-%m-%dT%H:%M:%S.000000000Z")
    vendor.to_csv(tmp_path / "pretty.csv", index=False)
    found = build_bars(read_bars(tmp_path / "pretty.csv"), CONFIG)
    expected = build_bars(two_contracts, CONFIG)
    pd.testing.assert_frame_equal(found.bars, expected.bars)
    left_out = {hygiene.SPREAD: len(spread), hygiene.COMBINATION: len(fly)}
    assert found.report["quarantined_by_reason"] == expected.report["quarantined_by_reason"] | left_out

    plain = vendor.assign(ts_event=pd.to_datetime(vendor["ts_event"]).astype("datetime64[ns, UTC]").astype("int64"))
    for name in PRICES:
        plain[name] = (plain[name] * 10**9).round().astype("int64")
    plain.to_csv(tmp_path / "plain.csv", index=False)
    bars = build_bars(read_bars(tmp_path / "plain.csv"), CONFIG).bars
    pd.testing.assert_frame_equal(bars, expected.bars)


def test_decimal_commas_brackets_twelve_hour_clocks_and_dates_as_numbers_are_read(month, tmp_path: Path) -> None:
    raw = month[NAMES]
    expected = build_bars(raw, CONFIG).bars
    spellings = {
        "commas": (raw.assign(ts=raw["ts"].dt.strftime("%d.%m.%Y %H:%M")), {"sep": ";", "decimal": ","}),
        "brackets": (
            pd.DataFrame({"<DATE>": raw["ts"].dt.strftime("%Y.%m.%d"), "<TIME>": raw["ts"].dt.strftime("%H:%M:%S")})
            .join(raw.drop(columns="ts").rename(columns=lambda name: f"<{name.upper()}>"))
            .rename(columns={"<VOLUME>": "<TICKVOL>"}),
            {"sep": "\t"},
        ),
        "twelve hours": (raw.assign(ts=raw["ts"].dt.strftime("%m/%d/%Y %I:%M %p")), {}),
        "numbers": (raw.assign(ts=raw["ts"].dt.strftime("%Y%m%d%H%M")), {}),
        "long numbers": (raw.assign(ts=raw["ts"].dt.strftime("%Y%m%d%H%M%S")), {}),
        "blank": (raw.assign(ts=raw["ts"].dt.strftime("%Y%m%d %H%M%S")), {"sep": ";"}),
    }
    for name, (frame, options) in spellings.items():
        pd.testing.assert_frame_equal(written(frame, tmp_path / f"{name}.csv", **options), expected, obj=name)


def test_a_file_without_a_header_is_read_in_the_usual_order_and_one_with_zones_in_some_rows_are_errors(
    month, tmp_path: Path
) -> None:
    raw = month[NAMES].assign(ts=month["ts"].dt.strftime("%Y%m%d %H%M%S"))
    expected = build_bars(month[NAMES], CONFIG).bars
    pd.testing.assert_frame_equal(written(raw, tmp_path / "bare.csv", header=False, sep=";"), expected)
    with pytest.raises(ValueError, match=r"expected a first line that names the columns, found 20160831 22\d+;"):
        written(raw[["ts", "close", "open", "low", "high"]], tmp_path / "turned.csv", header=False, sep=";")
    text = month["ts"].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    with pytest.raises(ValueError, match=r"with a zone, or all without, found '2016-08-31T22:\d+:00Z' and '2016-09-"):
        written(month.assign(ts=text.where(month.index < 9000, text.str[:-1])), tmp_path / "some.csv")
    with pytest.raises(ValueError, match="found text such as '43' in line 2"):
        written(month.assign(ts=range(43, 43 + len(month))), tmp_path / "rows.csv")


# Stamps


@pytest.mark.parametrize("minutes", [2, 15, 30, 60])
def test_other_spacings_are_named(month: pd.DataFrame, minutes: int) -> None:
    rules = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum"}
    coarse = month.groupby(month["ts"].dt.floor(f"{minutes}min")).agg(rules).reset_index()
    with pytest.raises(ValueError, match=rf"expected bars every 1 or 5 minutes, found one every {minutes} minutes"):
        build_bars(coarse, CONFIG)


def test_dates_whose_day_and_month_were_exchanged_stop_the_run(make_bars, tmp_path: Path) -> None:
    raw = make_bars(date(2016, 9, 1), date(2016, 10, 21))
    local = raw["ts"].dt.tz_convert("America/Chicago").dt.tz_localize(None)
    early = local.dt.day <= 12
    iso = local.dt.strftime("%Y-%m-%d %H:%M").where(~early, local.dt.strftime("%Y-%d-%m %H:%M"))
    mixed = local.dt.strftime("%d/%m/%Y %H:%M").where(~early, local.dt.strftime("%m/%d/%Y %H:%M"))
    for name, stamps in (("iso", iso), ("mixed", mixed)):
        raw.assign(ts=stamps).to_csv(tmp_path / f"{name}.csv", index=False)
        with pytest.raises(ValueError, match=r"day and month exchanged: \d+ rows, such as those of 2016-"):
            build_bars(read_bars(tmp_path / f"{name}.csv"), IngestConfig(naive_timezone="America/Chicago"))
    in_order = raw.assign(ts=pd.to_datetime(iso).dt.tz_localize("UTC")).sort_values("ts")
    with pytest.raises(ValueError, match=r"outside the session calendar|rows to be rejected|time zone"):
        build_bars(in_order, CONFIG)


def test_end_stamps_of_the_days_trade_alone_are_known_by_its_first_bar(month: pd.DataFrame) -> None:
    local = month["ts"].dt.tz_convert("America/Chicago")
    minute = local.dt.hour * 60 + local.dt.minute
    day = month[(minute >= 510) & (minute < 915)]
    assert build_bars(day, CONFIG).report["doubts"] == []
    with pytest.raises(ValueError, match=r"first bar stamped 08:31 exchange time: the stamps mark the END"):
        build_bars(day.assign(ts=day["ts"] + pd.Timedelta(minutes=1)), CONFIG)


# Prices


def test_prices_no_exchange_allows_are_quarantined_and_a_new_unit_stops_the_run(week: pd.DataFrame) -> None:
    spoilt = week.copy()
    columns = list(PRICES)
    spoilt.loc[2000, columns] *= 10
    spoilt.loc[3000:3039, columns] /= 100
    spoilt.loc[4000, "high"] *= 1.5
    found = build_bars(spoilt, CONFIG)
    wrong = [2000, *range(3000, 3040), 4000]
    assert found.report["quarantined_by_reason"] == {doubts.BEYOND_LIMITS: 42}
    pd.testing.assert_frame_equal(found.bars, build_bars(week.drop(index=wrong), CONFIG).bars)
    spoilt = week.copy()
    spoilt.loc[3000:, columns] *= 100
    with pytest.raises(ValueError, match=r"price unit: from 2016-09-\d\d .* 100 times those before"):
        build_bars(spoilt, CONFIG)


# Contracts


def test_a_file_of_a_deferred_contract_is_an_error_by_its_name(month: pd.DataFrame) -> None:
    for name in ("NQH7", "NQM7", "201703"):
        with pytest.raises(
            ValueError, match=rf"deferred contract: from 2016-09-01 to 2016-09-30 the file holds {name}"
        ):
            build_bars(month.assign(contract=name), CONFIG)
    assert build_bars(month.assign(contract="NQZ6"), CONFIG).report["doubts"] == []


def test_a_file_of_a_deferred_contract_without_its_name_is_an_error_by_its_thin_trade(month: pd.DataFrame) -> None:
    rng = np.random.default_rng(3)
    thin = month.drop(columns="contract")[rng.random(len(month)) < 0.1].assign(volume=lambda few: few.index % 3 + 1)
    with pytest.raises(ValueError, match=r"thin market: in half the sessions \d\d% or more of the five-minute bars"):
        build_bars(thin, CONFIG)
    without = IngestConfig(volume=False)
    with pytest.raises(ValueError, match="thin market"):
        build_bars(thin.drop(columns="volume"), without)
    assert build_bars(month.drop(columns=["contract", "volume"]), without).report["doubts"] == []


def test_a_contracts_own_deferred_months_are_left_out_and_its_front_months_kept(make_bars) -> None:
    raw = make_bars(date(2016, 8, 1), date(2016, 9, 30))
    found = build_bars(raw, CONFIG)
    assert found.report["quarantined_by_reason"] == {doubts.DEFERRED: int((raw["ts"] < "2016-08-17 22:00Z").sum())}
    pd.testing.assert_frame_equal(found.bars, build_bars(raw[raw["ts"] >= "2016-08-17 22:00Z"], CONFIG).bars)


def test_whole_sessions_of_another_contract_stop_the_run(month: pd.DataFrame) -> None:
    """Where a stretch begins and ends with a session, its level hides in the opening gaps; its volume does not."""
    rows = month["ts"].between("2016-09-13 21:30Z", "2016-09-16 21:30Z").to_numpy()
    raw = month.copy()
    raw.loc[rows, "volume"] = np.random.default_rng(0).binomial(raw.loc[rows, "volume"], 0.04)
    raw = raw[raw["volume"] > 0]
    with pytest.raises(ValueError, match=r"thin stretch: 3 sessions have a small part .*2016-09-14 \(\d\.\d%\)"):
        build_bars(raw, CONFIG)
    assert len(build_bars(raw, IngestConfig(doubtful="warn")).quarantine) == 0
    quiet = build_bars(raw.drop(columns="contract"), CONFIG).report["doubts"]  # in the weeks of rolls, trade moves on
    assert [(doubt["check"], doubt["count"]) for doubt in quiet] == [("thin stretch", 3)]


QUARTERS = [(year, month) for year in range(2009, 2017) for month in (3, 6, 9, 12)][:29]
CODES = {3: "H", 6: "M", 9: "U", 12: "Z"}


def quoted_year_round() -> tuple[pd.DataFrame, list[dict]]:
    """Five-minute bars of 29 overlapping contracts, each quoted for a year, and the 26 rolls among them."""
    rng = np.random.default_rng(29)
    days = trading_sessions(date(2009, 1, 5), date(2015, 8, 28))["session"]  # two contracts never become the front
    expiry = pd.Series([pd.Timestamp(y, m, 1) + pd.offsets.WeekOfMonth(week=2, weekday=4) for y, m in QUARTERS])
    ratio = np.cumprod([1.0, *(1 + rng.normal(-0.002, 0.0005, 28))])
    local = (days + pd.Timedelta(hours=8, minutes=30)).dt.tz_localize("America/Chicago")
    first = local.dt.tz_convert("UTC").dt.tz_localize(None)
    ts = np.repeat(first.to_numpy(), 20) + np.tile(np.arange(20) * np.timedelta64(5, "m"), len(days))
    path = 1200 * np.exp(np.cumsum(rng.normal(0, 0.0008, len(ts))))
    parts = []
    for k, end in enumerate(expiry):
        left = np.repeat((end - days).dt.days.to_numpy(), 20)
        before = expiry[k - 1] if k else pd.Timestamp(2000, 1, 1)
        is_next = np.repeat(((before - days).dt.days < 8).to_numpy(), 20)
        volume = np.where(left < 8, 900, np.where(is_next, 4000, np.where(left < 98 + 8, 500, 3)))
        close = np.round(4 * path * ratio[k]) / 4
        frame = pd.DataFrame({"ts": ts, "open": close - 0.25, "high": close + 0.5, "low": close - 0.5, "close": close})
        frame["volume"] = (volume * rng.uniform(1, 2, len(ts))).astype(int)
        seen = (left >= 0) & (left <= 365) & (rng.random(len(ts)) < np.where(volume > 100, 1.0, 0.4))
        parts.append(frame[seen].assign(contract=f"NQ{CODES[QUARTERS[k][1]]}{QUARTERS[k][0] % 10}"))
    rolls = []
    for k, end in enumerate(expiry[:26]):
        traded_more = days[(end - days).dt.days < 8].iloc[0]
        rolls.append({"session": days[days > traded_more].iloc[0], "factor": ratio[k] / ratio[k + 1]})
    raw = pd.concat(parts, ignore_index=True).sample(frac=1, random_state=1, ignore_index=True)
    return raw.assign(ts=raw["ts"].dt.tz_localize("UTC")), rolls


def test_of_29_overlapping_contracts_the_26_rolls_are_found_with_their_factors() -> None:
    raw, rolls = quoted_year_round()
    assert raw["contract"].nunique() == 29
    found = build_bars(raw, CONFIG)
    ledger = found.roll_ledger
    assert len(ledger) == 26 and {entry["rule"] for entry in ledger} == {"volume"}
    assert [entry["session"] for entry in ledger] == [str(roll["session"].date()) for roll in rolls]
    contracts = found.report["contracts"]
    assert [(entry["from_contract"], entry["to_contract"]) for entry in ledger] == list(pairwise(contracts))[:26]
    np.testing.assert_allclose([entry["factor"] for entry in ledger], [roll["factor"] for roll in rolls], rtol=2e-4)
    assert max(entry["max_return_change_inside_contract"] for entry in ledger) < 1e-12
    assert len(found.quarantine) == 0 and found.report["doubts"] == []

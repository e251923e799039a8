"""Vendor files: the same rows from every format and spelling, and one clear error for each bad file."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from databento_dbn import SType

from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.text_file import read_text
from nqcast.market.vendor import _dbn_symbols, as_raw_bars, read_bars

CONFIG = IngestConfig()


def _same_rows(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    found = found.assign(ts=found["ts"].dt.as_unit("ns"), contract=found["contract"].astype("str"))
    found = found[list(expected.columns)]
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_parquet_and_csv_hold_the_same_rows(week: pd.DataFrame, tmp_path: Path) -> None:
    week.to_parquet(tmp_path / "bars.parquet")
    week.to_csv(tmp_path / "bars.csv", index=False)
    _same_rows(read_bars(tmp_path / "bars.parquet"), week)
    _same_rows(read_bars(tmp_path / "bars.csv"), week)


@pytest.mark.parametrize(
    "spelling",
    [
        ["timestamp", "Open", "High", "Low", "Close", "Volume", "Symbol"],
        ["ts_event", "o", "h", "l", "c", "v", "instrument"],
        ["DateTime", "OPEN", "HIGH", "LOW", "Last", "Vol", "Ticker"],
        [" Date ", "open", "high", "low", "close", "volume", "raw_symbol"],
    ],
)
def test_the_usual_spellings_of_columns_are_read(week: pd.DataFrame, tmp_path: Path, spelling: list[str]) -> None:
    week.set_axis(spelling, axis=1).to_csv(tmp_path / "bars.csv", index=False)
    _same_rows(read_bars(tmp_path / "bars.csv"), week)


def test_a_time_index_counts_as_the_time_stamps(week: pd.DataFrame, tmp_path: Path) -> None:
    week.set_index("ts").rename_axis("date").to_parquet(tmp_path / "bars.parquet")
    _same_rows(read_bars(tmp_path / "bars.parquet"), week)


@pytest.mark.parametrize(("unit", "divisor"), [("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)])
def test_epochs_are_told_apart_by_their_size(week: pd.DataFrame, tmp_path: Path, unit: str, divisor: int) -> None:
    epoch = week.assign(ts=week["ts"].astype("int64") // divisor)
    epoch.to_csv(tmp_path / f"{unit}.csv", index=False)
    _same_rows(read_bars(tmp_path / f"{unit}.csv"), week)


@pytest.mark.parametrize("number", [0, 1, 20_160_908])
def test_a_number_too_small_for_an_epoch_counts_in_the_unit_of_the_others(
    week: pd.DataFrame, tmp_path: Path, number: int
) -> None:
    epoch = week["ts"].astype("int64") // 10**6
    week.assign(ts=epoch.where(epoch.index != 61, number)).to_csv(tmp_path / "bars.csv", index=False)
    assert read_bars(tmp_path / "bars.csv")["ts"][61] == pd.Timestamp(number, unit="ms", tz="UTC")


def test_stamps_in_exchange_time_with_offsets_are_the_same_instants(make_bars, tmp_path: Path) -> None:
    raw = make_bars(date(2016, 11, 4), date(2016, 11, 8))  # two offsets: DST ends
    local = raw.assign(ts=raw["ts"].dt.tz_convert("America/Chicago").map(lambda ts: ts.isoformat()))
    local.to_csv(tmp_path / "bars.csv", index=False)
    _same_rows(read_bars(tmp_path / "bars.csv"), raw)


def test_a_naive_file_gives_the_same_bars_once_its_zone_is_named(make_bars, tmp_path: Path) -> None:
    raw = make_bars(date(2016, 11, 4), date(2016, 11, 8))
    raw.assign(ts=raw["ts"].dt.tz_convert("America/Chicago").dt.tz_localize(None)).to_csv(
        tmp_path / "bars.csv", index=False
    )
    named = IngestConfig(naive_timezone="America/Chicago")
    found = build_bars(read_bars(tmp_path / "bars.csv"), named).bars
    pd.testing.assert_frame_equal(found, build_bars(raw, CONFIG).bars)
    with pytest.raises(ValueError, match=r"with a zone, found 2016-11-03 17:.*naive_timezone"):
        build_bars(read_bars(tmp_path / "bars.csv"), CONFIG)


def test_date_and_time_in_two_columns_and_semicolons_are_read(week: pd.DataFrame, tmp_path: Path) -> None:
    split = week.assign(Date=week["ts"].dt.strftime("%Y-%m-%d"), Time=week["ts"].dt.strftime("%H:%M:%SZ"))
    split.drop(columns="ts").to_csv(tmp_path / "bars.csv", index=False, sep=";")
    _same_rows(read_bars(tmp_path / "bars.csv"), week)


def test_the_order_of_day_and_month_is_taken_only_where_it_is_clear(week: pd.DataFrame, tmp_path: Path) -> None:
    week.assign(ts=week["ts"].dt.strftime("%m/%d/%Y %H:%M")).to_csv(tmp_path / "clear.csv", index=False)
    _same_rows(read_bars(tmp_path / "clear.csv"), week.assign(ts=week["ts"].dt.tz_localize(None)))
    early = week.assign(ts=(week["ts"] - pd.Timedelta(days=14)).dt.strftime("%d/%m/%Y %H:%M"))
    early.to_csv(tmp_path / "unclear.csv", index=False)
    with pytest.raises(
        ValueError, match=r"found text such as '04/09/2016 22:0\d' in line 2, which may be 2016-04-09 or 2016-09-04: w"
    ):
        read_bars(tmp_path / "unclear.csv")


def test_dbn_by_raw_symbol_holds_the_rows_of_the_parquet(real_data: Path) -> None:
    found = read_bars(real_data / "nq_1m_2016-09_two_contracts.dbn.zst")
    raw = read_bars(real_data / "nq_1m_2015-06_2016-12.parquet")
    first, last = found["ts"].min(), found["ts"].max()
    raw = raw[raw["ts"].between(first, last)]
    names = raw["contract"].map({"201609": "NQU6", "201612": "NQZ6"}).astype("str")
    order = ["ts", "contract"]
    _same_rows(
        found.sort_values(order, ignore_index=True),
        raw.assign(contract=names).sort_values(order, ignore_index=True),
    )
    one = build_bars(found, CONFIG)
    other = build_bars(raw, CONFIG)
    pd.testing.assert_frame_equal(one.bars.drop(columns="contract"), other.bars.drop(columns="contract"))


def test_a_continuous_dbn_file_changes_contract_with_its_mapping(real_data: Path) -> None:
    found = read_bars(real_data / "nq_1m_2016-09_continuous.dbn.zst")
    change = pd.Timestamp("2016-09-08", tz="UTC")
    assert set(found["contract"][found["ts"] < change]) == {"NQ.v.0#90001"}
    assert set(found["contract"][found["ts"] >= change]) == {"NQ.v.0#90002"}
    (roll,) = build_bars(found, CONFIG).roll_ledger
    assert (roll["rule"], roll["common_minutes"], roll["adjusted"]) == ("end_of_bars", 0, False)


def test_an_instrument_id_means_what_the_mapping_says_of_that_day() -> None:
    days = pd.to_datetime(["2016-09-07 23:59", "2016-09-08 00:00", "2016-09-09 00:00", "2016-09-08 12:00"])
    intervals = {
        "NQU6": [{"start_date": date(2016, 9, 1), "end_date": date(2016, 9, 8), "symbol": "7"}],
        "NQZ6": [{"start_date": date(2016, 9, 8), "end_date": date(2016, 9, 9), "symbol": "7"}],
        "NQH7": [{"start_date": date(2016, 9, 1), "end_date": date(2016, 9, 9), "symbol": "8"}],
    }
    types = {"stype_in": SType.RAW_SYMBOL, "stype_out": SType.INSTRUMENT_ID}
    store = SimpleNamespace(metadata=SimpleNamespace(mappings=intervals, **types))
    found = _dbn_symbols(np.array([7, 7, 7, 8]), days.tz_localize("UTC").as_unit("ns"), store)
    assert [name if isinstance(name, str) else None for name in found] == ["NQU6", "NQZ6", None, "NQH7"]


def test_the_vendors_own_test_file_is_read_to_the_tick(real_data: Path) -> None:
    found = read_bars(real_data / "test_data.ohlcv-1m.dbn.zst")
    assert found["contract"].tolist() == ["ESH1"] * 4
    assert found.loc[0, ["open", "high", "low", "close"]].tolist() == [3702.75, 3704.75, 3702.5, 3704.75]
    assert found["volume"].tolist()[:2] == [306, 214]
    assert found["ts"].iloc[0] == pd.Timestamp("2020-12-28", tz="UTC")
    with pytest.raises(ValueError, match=r"at least 300 usable bars, found 4"):
        build_bars(found, CONFIG)


@pytest.mark.parametrize(
    "content", [b"DBN", b"DBN\x01", b"DBN\x01" + bytes(range(256)), b"DBN\xff" + bytes(400), b"\0" * 99]
)
def test_a_damaged_dbn_file_is_named_in_one_line(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.dbn").write_bytes(content)
    with pytest.raises(ValueError, match=r"expected a DBN file, found .*x\.dbn that is none or is damaged"):
        read_bars(tmp_path / "x.dbn")


def test_a_missing_file_a_folder_and_an_empty_file_are_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"found nothing at .*none\.parquet: check the path"):
        read_bars(tmp_path / "none.parquet")
    with pytest.raises(ValueError, match=r"expected files of bars in the folder .*found none"):
        read_bars(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(ValueError, match=r"found the empty file"):
        read_bars(tmp_path / "empty.csv")
    (tmp_path / "bars.xlsx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"expected \.dbn, .* or \.tsv, also packed, found 'bars\.xlsx'"):
        read_bars(tmp_path / "bars.xlsx")


@pytest.mark.parametrize("name", ["bars.parquet", "bars.dbn", "bars.dbn.zst", "bars.csv"])
def test_garbled_bytes_are_an_error_that_names_the_file(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(np.random.default_rng(0).bytes(4000))
    with pytest.raises(ValueError, match=rf"expected .*{name}"):
        read_bars(tmp_path / name)


def test_a_truncated_parquet_and_dbn_are_errors(week: pd.DataFrame, tmp_path: Path, real_data: Path) -> None:
    week.to_parquet(tmp_path / "bars.parquet")
    source = {
        "bars.parquet": tmp_path / "bars.parquet",
        "bars.dbn.zst": real_data / "nq_1m_2016-09_two_contracts.dbn.zst",
    }
    for name, file in source.items():
        data = file.read_bytes()
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        with pytest.raises(ValueError, match=r"expected a .* file, found .* damaged"):
            read_bars(tmp_path / name)


def test_a_file_with_a_header_alone_has_no_rows(week: pd.DataFrame, tmp_path: Path) -> None:
    week.head(0).to_csv(tmp_path / "bars.csv", index=False)
    week.head(0).to_parquet(tmp_path / "bars.parquet")
    for name in ("bars.csv", "bars.parquet"):
        with pytest.raises(ValueError, match="found no rows"):
            read_bars(tmp_path / name)


def test_of_a_file_that_grows_the_lines_that_were_read_are_parsed_and_the_file_is_not_read_again(
    tmp_path: Path,
) -> None:
    found = read_text(tmp_path / "is_not_there.csv", "\ufeffts;close\n2016-09-08;4700\n".encode())
    assert found.to_dict("list") == {"ts": ["2016-09-08"], "close": [4700]}


def test_a_volume_under_names_that_nobody_knows_is_pointed_at() -> None:
    bars = {
        "ts": ["2016-03-01T15:00Z"],
        "open": 4200.0,
        "high": 4201.0,
        "low": 4199.0,
        "close": 4200.0,
        "Volume USD": 5,
    }
    assert as_raw_bars(pd.DataFrame(bars)).attrs["notes"] == [
        "no volume is read, which Volume USD may hold: name it volume"
    ]


def test_a_missing_column_is_named_with_the_closest_one(week: pd.DataFrame, tmp_path: Path) -> None:
    week.rename(columns={"close": "closing"}).to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(ValueError, match=r"expected a column 'close', found .*closest: 'closing'.*rename"):
        read_bars(tmp_path / "bars.csv")
    week.drop(columns="ts").to_csv(tmp_path / "bars.csv", index=False)
    with pytest.raises(ValueError, match=r"expected a column 'ts'.*rename"):
        read_bars(tmp_path / "bars.csv")


@pytest.mark.parametrize(
    ("columns", "names"),
    [
        ({"symbol": "ESH6", "expiry": "20160318"}, {"ESH6"}),
        ({"symbol": ["NQH6", "NQM6"], "expiration": np.nan}, {"NQH6", "NQM6"}),
        ({"symbol": "NQH6", "expiration": [17, 16]}, {"NQH6"}),
        ({"symbol": ["NQH6", "NQH6-NQM6"], "expiry": "20160318"}, {"NQH6", "NQH6-NQM6"}),
        ({"symbol": "NQ", "expiry": "20160318"}, {"NQ 20160318"}),
        ({"contract": 495512552, "localSymbol": "NQH6"}, {"NQH6"}),
        ({"contract": "NQH6", "symbol": "NQ"}, {"NQH6"}),
    ],
)
def test_of_several_columns_the_one_that_names_contracts_is_read(columns: dict[str, Any], names: set[str]) -> None:
    ts = pd.to_datetime(["2016-03-01T15:00Z", "2016-03-01T15:01Z"])
    bars = {"ts": ts, "open": 4200.0, "high": 4201.0, "low": 4199.0, "close": 4200.0, "volume": 5}
    assert set(as_raw_bars(pd.DataFrame({**bars, **columns}))["contract"].astype("str")) == names

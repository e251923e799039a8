"""Files that deceive: each way ends in the same bars, a quarantine by its reason, or one line with cause and cure."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
from pyarrow.parquet import read_table
from tests.market.deceiving import CASES, CONTRACTS, PRICES, five_minute, market, older, two_contracts

from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.vendor import as_raw_bars, read_bars

GIVEN = Path(__file__).resolve().parents[3] / "shared" / "cases"


@cache
def clean(raw: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    return build_bars(raw(), IngestConfig()).bars.drop(columns="contract")


@pytest.mark.parametrize("name", CASES)
def test_a_deceiving_file_ends_as_it_must(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    path, config = case.write(case.raw(), tmp_path), IngestConfig(**case.config)
    if case.error:
        with pytest.raises(ValueError, match=case.error) as raised:
            build_bars(read_bars(path), config)
        assert "\n" not in str(raised.value)
        return
    found = build_bars(read_bars(path), config)
    assert found.report["quarantined_by_reason"] == case.quarantine and found.report["doubts"] == []
    assert re.search(case.notes, " ".join(found.report["notes"]))
    if not case.quarantine or NO_LINE_ADDED in case.quarantine:
        pd.testing.assert_frame_equal(found.bars.drop(columns="contract"), clean(case.raw))


def test_prices_of_single_precision_are_the_multiples_of_the_tick_that_they_stand_for(tmp_path: Path) -> None:
    raw, config = market(), IngestConfig(instrument="CL", tick=0.01)
    crude = raw.assign(**{name: (raw[name] / 100).round(2) for name in PRICES})
    crude.astype(dict.fromkeys(PRICES, "float32")).to_parquet(tmp_path / "bars.parquet")
    found = build_bars(read_bars(tmp_path / "bars.parquet"), config)
    assert found.report["doubts"] == []
    pd.testing.assert_frame_equal(found.bars, build_bars(crude, config).bars, check_exact=True)


NO_LINE_ADDED = "no bar: nothing in the line can be read"


@pytest.mark.parametrize("name", CONTRACTS)
def test_contracts_are_joined_alike_whatever_they_are_called_and_in_which_order(name: str, tmp_path: Path) -> None:
    raw = two_contracts()
    expected = build_bars(raw, IngestConfig())
    found = build_bars(read_bars(CONTRACTS[name](raw, tmp_path)), IngestConfig())
    pd.testing.assert_frame_equal(found.bars.drop(columns="contract"), expected.bars.drop(columns="contract"))
    (roll,), (same,) = found.roll_ledger, expected.roll_ledger
    assert roll["adjusted"] and (roll["ts"], roll["rule"], roll["factor"]) == (same["ts"], same["rule"], same["factor"])


def test_a_continuous_series_told_apart_by_number_alone_leaves_its_roll_out(tmp_path: Path) -> None:
    raw, roll = two_contracts(), build_bars(two_contracts(), IngestConfig()).roll_ledger[0]
    front = raw[(raw["contract"] == "201603") == (raw["ts"] < roll["ts"])]
    front = front.assign(instrument_id=front["contract"].map({"201603": 7001, "201606": 7002})).drop(columns="contract")
    front.to_csv(tmp_path / "bars.csv", index=False)
    found = build_bars(read_bars(tmp_path / "bars.csv"), IngestConfig())
    assert [(entry["adjusted"], entry["ts"]) for entry in found.roll_ledger] == [(False, roll["ts"])]
    assert found.bars.loc[found.bars["unadjusted"], "ts"].tolist() == [pd.Timestamp(roll["ts"])]


def test_a_contract_that_comes_back_after_its_roll_stops_the_run() -> None:
    raw = two_contracts().drop(columns="contract").drop_duplicates("ts")
    day = raw["ts"].dt.day
    names = pd.Series("7001", index=raw.index).mask(day.between(10, 14), "7002")
    with pytest.raises(ValueError, match=r"unused bars: only|contracts in another order"):
        build_bars(raw.assign(contract=names), IngestConfig())


@pytest.mark.parametrize("minutes", [5, 15, 60, 1440])
def test_no_bar_of_the_older_spacing_is_taken_with_the_newest(minutes: int) -> None:
    raw = market(sessions=8)
    found = build_bars(older(raw, minutes, "2016-02-28"), IngestConfig(mixed_spacing="newest"))
    expected = build_bars(raw[raw["ts"] >= "2016-02-28"], IngestConfig())
    pd.testing.assert_frame_equal(found.bars, expected.bars)
    assert len(found.quarantine) == 0


def test_the_newest_spacing_is_taken_by_parameter() -> None:
    raw = market()
    newest = raw[raw["ts"] >= "2016-02-24 10:10"]
    both = pd.concat([five_minute(raw[raw["ts"] < "2016-02-24 10:10"]), newest], ignore_index=True)
    found = build_bars(both, IngestConfig(mixed_spacing="newest"))
    pd.testing.assert_frame_equal(found.bars, build_bars(newest, IngestConfig()).bars)


@pytest.mark.parametrize(("at", "factor"), [(4000, 1.1), (4003, 0.9), (5100, 1.03)])
def test_a_bad_print_at_the_newest_bar_is_asked_about_once_it_is_back(at: int, factor: float) -> None:
    """What is cut off after a bar must not change what was said of the bars before its return."""
    raw = market()
    raw.loc[at, PRICES] = (raw.loc[at, PRICES] * factor).round()
    whole = build_bars(raw, IngestConfig()).quarantine
    assert whole["ts"].tolist() == [raw["ts"].iloc[at]]
    for later in (2, 500):
        cut = build_bars(raw.head(at + later), IngestConfig()).quarantine
        assert cut["ts"].tolist() == whole["ts"].tolist()
    newest = build_bars(raw.head(at + 1), IngestConfig()).quarantine
    assert len(newest) == (abs(factor - 1) > 0.035)  # a smaller move may be one, as far as anyone can know


@pytest.mark.parametrize("move", [0.97, 1.03])
def test_a_move_that_stays_is_no_bad_print(move: float) -> None:
    raw = market()
    raw.loc[4000:, PRICES] = (raw.loc[4000:, PRICES] * move * 4).round() / 4
    assert len(build_bars(raw, IngestConfig()).quarantine) == 0


def test_tables_of_other_libraries_and_odd_objects(tmp_path: Path) -> None:
    raw = market()
    raw.to_parquet(tmp_path / "bars.parquet")
    expected = build_bars(raw, IngestConfig()).bars
    for table in (read_table(tmp_path / "bars.parquet"), raw.to_dict("list"), raw.to_dict("records")):
        pd.testing.assert_frame_equal(build_bars(as_raw_bars(table), IngestConfig()).bars, expected)
    reader = read_table(tmp_path / "bars.parquet").to_reader()
    pd.testing.assert_frame_equal(build_bars(as_raw_bars(reader), IngestConfig()).bars, expected)
    for odd in ([], {}, 7, None, ["a", "b"], [1, 2], {"a": 1}):
        with pytest.raises(ValueError, match="expected a "):
            as_raw_bars(odd)
    twice = pd.concat([raw, raw[["close"]] + 1], axis=1)
    with pytest.raises(ValueError, match="expected one column 'close'"):
        as_raw_bars(twice)


def test_a_table_of_polars_is_read(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars", reason="pip install polars runs this")
    raw = market()
    raw.to_parquet(tmp_path / "bars.parquet")
    table = polars.from_arrow(read_table(tmp_path / "bars.parquet"))
    expected = build_bars(raw, IngestConfig()).bars
    pd.testing.assert_frame_equal(build_bars(as_raw_bars(table), IngestConfig()).bars, expected)
    with pytest.raises(ValueError, match=r"expected a table of bars .*found LazyFrame"):
        as_raw_bars(table.lazy())


@pytest.mark.skipif(not GIVEN.is_dir(), reason="the given cases lie beside the project only")
@pytest.mark.parametrize("folder", sorted(path.name for path in GIVEN.glob("*")) if GIVEN.is_dir() else [])
def test_the_given_cases_are_read_or_refused_in_one_line(folder: str) -> None:
    text = (GIVEN / folder / "README.md").read_text()
    bars, *given = re.search(r"--params (\S+)`", text)[1].removeprefix("bars=").split(",")  # type: ignore[index]
    config = IngestConfig(**dict(pair.removeprefix("ingest.").split("=") for pair in given))
    refused = folder[:2] in ("A1", "B1", "B3", "B4", "B5", "C1", "C2", "C5", "C6") or folder.startswith("E22")
    if refused:
        with pytest.raises(ValueError, match="found") as raised:
            build_bars(read_bars(GIVEN / folder / bars), config)
        assert "\n" not in str(raised.value)
        return
    found = build_bars(read_bars(GIVEN / folder / bars), config)
    assert found.report["doubts"] == [] and len(found.quarantine) == folder.startswith(("C4", "D1", "E3_", "E21"))
    rolls = {"A2": [True], "A3": [False], "A4": [True]}.get(folder[:2], [])
    assert [entry["adjusted"] for entry in found.roll_ledger] == rolls

"""The live road: bars come in line by line, a forecast for each, outcomes as they fall due; a restart loses nothing."""

from __future__ import annotations

import copy
import json
import resource
import shutil
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import pytest
from tests.forecast.conftest import random_checkpoint
from tests.live.gateway import KEY, as_records, clock, served, wait_until

import nqcast
from nqcast.constants import HORIZONS
from nqcast.data.config import ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.fingerprint import data_card
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.forecast.loading import load
from nqcast.live.command import main
from nqcast.live.databento_feed import DatabentoFeed
from nqcast.live.feed import Feed
from nqcast.live.grid import GrowingGrid
from nqcast.live.page import serve, state
from nqcast.live.watcher import FORECASTS, OUTCOMES, Watcher
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate
from nqcast.storage.append_only import read_records
from nqcast.storage.checkpoint import MANIFEST, DataCard, checkpoint_files
from nqcast.storage.errors import StorageError
from nqcast.storage.verified import write_folder

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def raw() -> pd.DataFrame:
    """Fifteen sessions of one contract."""
    bars = simulate(SimulationConfig(sessions=15, seed=3))
    return bars[bars["contract"] == bars["contract"].iloc[0]].sort_values("ts", ignore_index=True)


@pytest.fixture(scope="module")
def forecaster(raw: pd.DataFrame) -> Forecaster:
    features = build_features(build_bars(raw, IngestConfig()).bars)
    return Forecaster(random_checkpoint(features, ScaleConfig()), config=ForecastConfig(min_bars=600))


def write(raw: pd.DataFrame, path: Path, until: str) -> None:
    """The bars that had ended by then, as a CSV file that a logger appends to."""
    ended = raw[raw["ts"] < pd.Timestamp(until)]
    done = len(path.read_text().splitlines()) - 1 if path.exists() else 0
    ended.iloc[done:].to_csv(path, mode="a", header=not path.exists(), index=False)


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


START, SOON, NIGHT, NEXT = (f"2016-01-{when}Z" for when in ("19T16:00", "19T16:40", "19T22:10", "20T03:00"))
EVENING = "2016-01-19T17:30Z"


def test_every_bar_gets_the_forecast_that_the_whole_history_gives(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    until, file = START, tmp_path / "in" / "bars.csv"
    watcher = Watcher(forecaster, Feed(tmp_path / "in"), tmp_path, lambda: pd.Timestamp(until).to_pydatetime())
    write(raw, file, START)
    assert watcher.step() == 1 and watcher.step() == 0
    for until in ("2016-01-19T16:03Z", "2016-01-19T16:05Z", "2016-01-19T16:21Z", SOON, "2016-01-20T00:00Z", NEXT):
        write(raw, file, until)
        watcher.step()
    made = lines(tmp_path / FORECASTS)
    times = [pd.Timestamp(str(record["issue_time"])) for record in made]
    assert times[:4] == [pd.Timestamp(f"2016-01-19T16:{m:02}Z") for m in (0, 5, 10, 15)] and times[-1] == pd.Timestamp(
        NEXT
    )
    assert len(set(times)) == len(times) and times == sorted(times)
    assert [record["late"] for record in made[:4]] == [False, False, True, True], "bars that came two at a time"
    for record in (made[0], made[5], made[-1]):
        known = raw[raw["ts"] < pd.Timestamp(str(record["issue_time"]))]
        expected = forecaster.forecast(known)
        for name, quantiles in record["quantiles"].items():
            wanted = expected.loc[expected["horizon"] == name, "return_quantile"]
            np.testing.assert_allclose(quantiles, wanted, rtol=1e-6, atol=1e-9)
    assert max(record.get("seconds", 0.0) for record in made) > 0


def test_bars_that_come_one_by_one_make_the_rows_that_they_make_at_once(
    raw: pd.DataFrame, forecaster: Forecaster
) -> None:
    """Minutes of two contracts, in any order within a minute; the front is silent at 16:09, and from 16:14 to 16:17."""
    behind = raw.assign(
        volume=1, contract="NQM6", **{name: raw[name] + 10 for name in ("open", "high", "low", "close")}
    )
    both = pd.concat([raw.assign(contract="NQH6"), behind]).sort_values("ts", kind="stable")
    silent = [pd.Timestamp(f"2016-01-19T16:{minute:02}Z") for minute in (9, 14, 15, 16, 17)]
    live = both[(both["ts"] >= START) & (both["ts"] < SOON)]
    live = live[~(live["ts"].isin(silent) & (live["contract"] == "NQH6"))]
    live = live.sample(frac=1.0, random_state=5).sort_values("ts", kind="stable")
    one_by_one, at_once = GrowingGrid(forecaster), GrowingGrid(forecaster)
    for grid in (one_by_one, at_once):
        grid.add(both[both["ts"] < START])
        grid.table()
    first: dict[pd.Timestamp, pd.Series] = {}
    came: dict[pd.Timestamp, str] = {}
    for k in range(len(live)):
        one_by_one.add(live.iloc[[k]])
        table = one_by_one.table()
        assert table is not None
        for _, row in table[table["ts"] >= START].iterrows():
            came.setdefault(row["ts"], f"{live['ts'].iloc[k]:%H:%M} {live['contract'].iloc[k]}")
            first.setdefault(row["ts"], row)
    at_once.add(live)
    whole = at_once.table()
    assert whole is not None
    pd.testing.assert_frame_equal(
        pd.DataFrame(list(first.values())).reset_index(drop=True),
        whole[whole["ts"] >= START].reset_index(drop=True),
        check_dtype=False,
    )
    assert list(came.values())[:4] == ["16:04 NQH6", "16:10 NQH6", "16:16 NQM6", "16:19 NQH6"]


RULES = {"open": "first", "high": "max", "low": "min", "close": "last", "volume": "sum", "contract": "first"}


@pytest.mark.parametrize("minutes", [1, 5])
@pytest.mark.parametrize("stamped", ["at the end", "in the last second"])
def test_bars_stamped_at_their_end_make_the_rows_of_those_stamped_at_their_start(
    stamped: str, minutes: int, raw: pd.DataFrame, forecaster: Forecaster
) -> None:
    """From the first batch on, bar by bar, and after the next session's first bar has made the past anew."""
    bars = raw.set_index("ts").resample(f"{minutes}min").agg(RULES).dropna().reset_index()
    ends = bars["ts"] + pd.Timedelta(minutes=minutes)
    late = bars.assign(ts=ends if stamped == "at the end" else ends - pd.Timedelta(seconds=1))
    by_end = copy.copy(forecaster)
    by_end.ingest = forecaster.ingest.model_copy(update={"stamps": "end" if stamped == "at the end" else "start"})
    one, other = GrowingGrid(forecaster), GrowingGrid(by_end)
    steps = pd.to_datetime([START, "2016-01-19T16:10Z", SOON, "2016-01-20T00:20Z", NEXT])
    for since, until in zip([pd.Timestamp(0, tz="UTC"), *steps], steps, strict=False):
        ended = (bars["ts"] >= since) & (bars["ts"] < until)
        one.add(bars[ended])
        other.add(late[ended])
        expected, found = one.table(), other.table()
        assert expected is not None and expected["ts"].iloc[-1] >= until - pd.Timedelta(minutes=15)
        pd.testing.assert_frame_equal(found, expected)


def test_the_command_is_told_how_bars_are_stamped_and_refuses_what_it_does_not_read(
    raw: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = build_features(build_bars(raw, IngestConfig()).bars)
    drawn = random_checkpoint(features, ScaleConfig())
    card = data_card(features, IngestConfig().instrument.model_dump(mode="json"))
    trained = replace(drawn, metadata=replace(drawn.metadata, data=card))
    write_folder(tmp_path / "checkpoint", checkpoint_files(trained), MANIFEST)
    bars = raw[raw["ts"] < SOON].set_index("ts").resample("5min").agg(RULES).dropna().reset_index()
    bars["ts"] = bars["ts"].dt.tz_convert("America/Chicago").dt.tz_localize(None) + pd.Timedelta("5min")
    bars.to_csv(tmp_path / "bars.csv", index=False)

    def told(params: str) -> str:
        options = ["--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "out"), "--port", "-1"]
        assert main([str(tmp_path / "bars.csv"), *options, "--once", "--params", params]) == 1
        return capsys.readouterr().err

    zone = "ingest.naive_timezone=America/Chicago"
    assert "set the ingest parameter naive_timezone" in told("")
    assert "the stamps mark the END of a bar; set ingest.stamps=end" in told(zone)
    assert told("ingest.stamp=end") == "error: ingest.stamp: there is no such parameter; did you mean stamps?\n"
    assert told("train.seed=1").endswith("found train.seed: leave it out\n")
    assert "expected instrument=NQ, by which the checkpoint was trained, found ES" in told("instrument=ES")
    with pytest.MonkeyPatch.context() as patch:
        short = ForecastConfig(min_bars=600)
        patch.setattr(nqcast, "load", lambda path, **how: load(path, config=short, **how))
        options = ["--checkpoint", str(tmp_path / "checkpoint"), "--out", str(tmp_path / "out"), "--port", "-1"]
        params = f"{zone},ingest.stamps=end"
        assert main([str(tmp_path / "bars.csv"), *options, "--once", "--params", params]) == 0
    assert [record["issue_time"] for record in lines(tmp_path / "out" / FORECASTS)] == [pd.Timestamp(SOON).isoformat()]


def test_outcomes_at_the_close_and_a_session_later_come_when_they_are_due(raw: pd.DataFrame, tmp_path: Path) -> None:
    history = simulate(SimulationConfig(sessions=30, seed=3))  # labels of a day part the splits by a day more
    features = build_features(build_bars(history, IngestConfig()).bars, names=("5m", "close", "1d"))
    maker = Forecaster(random_checkpoint(features, ScaleConfig()), config=ForecastConfig(min_bars=600))
    file, issued = tmp_path / "bars.csv", pd.Timestamp("2016-01-19T21:40Z")
    write(raw, file, issued.isoformat())
    watcher, closes = Watcher(maker, Feed(file), tmp_path / "out"), raw.set_index("ts")["close"]
    known = {}
    for until in (issued, pd.Timestamp("2016-01-19T23:30Z"), pd.Timestamp("2016-01-20T21:45Z")):
        write(raw, file, until.isoformat())
        watcher.step()
        known[until] = {name for key, name in watcher.outcomes if key == issued.isoformat()}
    assert list(known.values()) == [set(), {"5m", "close"}, {"5m", "close", "1d"}]
    ends = {"close": pd.Timestamp("2016-01-19T22:00Z"), "1d": issued + pd.Timedelta("1D")}
    for name, end in ends.items():
        assert watcher.forecasts[issued.isoformat()]["target_times"][name] == end.isoformat()
        came = np.log(closes[: end - pd.Timedelta("1min")].iloc[-1] / closes[: issued - pd.Timedelta("1min")].iloc[-1])
        assert watcher.outcomes[issued.isoformat(), name]["log_return"] == pytest.approx(came)
    assert set(watcher.scores()) == {"5m", "close", "1d"} and state(watcher)["figure"] is not None


def test_outcomes_are_the_returns_that_came_and_are_written_once(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path
) -> None:
    file = tmp_path / "bars.csv"
    write(raw, file, START)
    watcher = Watcher(forecaster, Feed(file), tmp_path / "out")
    watcher.step()
    write(raw, file, SOON)
    watcher.step()
    found = {(r["issue_time"], r["horizon"]): r["log_return"] for r in lines(tmp_path / "out" / OUTCOMES)}
    closes = raw.set_index("ts")["close"]
    first = pd.Timestamp(START)
    for name in ("15m", "30m"):
        ended = closes[: first + pd.Timedelta(minutes=HORIZONS[name] - 1)].iloc[-1]
        assert found[first.isoformat(), name] == pytest.approx(
            np.log(ended / closes[: first - pd.Timedelta("1min")].iloc[-1])
        )
    assert not any(name == "60m" for _, name in found)
    scores = watcher.scores()
    assert scores["15m"]["outcomes"] == sum(name == "15m" for _, name in found)
    assert set(scores["15m"]["coverage"]) == {"q05", "q10", "q25", "q50", "q75", "q90", "q95"}


def test_a_restart_goes_on_where_the_files_end_even_after_a_kill_in_the_middle_of_a_line(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path
) -> None:
    file, whole, cut = tmp_path / "bars.csv", tmp_path / "whole", tmp_path / "cut"
    write(raw, file, START)
    for folder in (whole, cut):
        Watcher(forecaster, Feed(file), folder).step()
    write(raw, file, "2016-01-19T16:20Z")
    Watcher(forecaster, Feed(file), cut).step()
    text = (cut / FORECASTS).read_text()
    (cut / FORECASTS).write_text(text[: len(text) - 40])  # killed while it wrote
    (cut / OUTCOMES).unlink()
    write(raw, file, NEXT)
    for folder in (whole, cut):
        Watcher(forecaster, Feed(file), folder).step()
    assert all(r["late"] for folder in (whole, cut) for r in lines(folder / FORECASTS)), "bars of years ago"
    keys = [[r["issue_time"] for r in lines(folder / FORECASTS)] for folder in (whole, cut)]
    assert keys[0] == keys[1] and len(set(keys[0])) == len(keys[0])
    results = [{(r["issue_time"], r["horizon"]): r["log_return"] for r in lines(f / OUTCOMES)} for f in (whole, cut)]
    assert results[0] == results[1] and len(results[0]) > 100
    by_time = [{r["issue_time"]: r["quantiles"] for r in lines(folder / FORECASTS)} for folder in (whole, cut)]
    assert all(by_time[0][key].keys() == by_time[1][key].keys() for key in by_time[0])


def _watched(raw: pd.DataFrame, folder: Path, watch: Callable[[str], None]) -> dict[str, dict[str, object]]:
    """The quantiles by time after START, a quarter of an hour and SOON, as `watch` takes them from the growing file."""
    for until in (START, "2016-01-19T16:20Z", SOON):
        write(raw, folder / "bars.csv", until)
        watch(until)
    return {str(r["issue_time"]): cast(dict[str, object], r["quantiles"]) for r in lines(folder / FORECASTS)}


@pytest.fixture(scope="module")
def undisturbed(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, object]]:
    folder = tmp_path_factory.mktemp("undisturbed")
    return _watched(raw, folder, lambda _: Watcher(forecaster, Feed(folder / "bars.csv"), folder).step() and None)


def test_a_clock_that_is_set_back_makes_no_forecast_and_loses_none(
    raw: pd.DataFrame, forecaster: Forecaster, undisturbed: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    write(raw, tmp_path / "bars.csv", START)
    clock = {START: START, "2016-01-19T16:20Z": "2016-01-19T15:00Z", SOON: SOON}
    now = [START]
    watcher = Watcher(forecaster, Feed(tmp_path / "bars.csv"), tmp_path, lambda: pd.Timestamp(now[0]).to_pydatetime())

    def watch(until: str) -> None:
        now[0] = clock[until]
        made = watcher.step()
        assert (made == 0) == (until not in (START, SOON)) == bool(watcher.refused)
        said = (
            "expected a clock that is ahead of the bars, found 2016-01-19 15:00 UTC and a bar of 2016-01-19 16:19 UTC"
        )
        assert watcher.refused.startswith(said) or not watcher.refused

    assert _same(_watched(raw, tmp_path, watch), undisturbed)


def test_a_log_that_cannot_grow_ends_in_a_line_and_goes_on_when_it_can(
    raw: pd.DataFrame, forecaster: Forecaster, undisturbed: dict[str, dict[str, object]], tmp_path: Path
) -> None:
    def watch(until: str) -> None:
        if until != SOON:
            Watcher(forecaster, Feed(tmp_path / "bars.csv"), tmp_path).step()
            return
        room, limits = (tmp_path / FORECASTS).stat().st_size + 300, resource.getrlimit(resource.RLIMIT_FSIZE)
        watcher = Watcher(forecaster, Feed(tmp_path / "bars.csv"), tmp_path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, limits[1]))
        try:
            with pytest.raises(StorageError, match=r"forecasts.jsonl could not be written \(the file is larger than"):
                watcher.step()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert len(read_records(tmp_path / FORECASTS)) == len(watcher.forecasts)
        Watcher(forecaster, Feed(tmp_path / "bars.csv"), tmp_path).step()

    assert _same(_watched(raw, tmp_path, watch), undisturbed)


def _same(found: dict[str, dict[str, object]], expected: dict[str, dict[str, object]]) -> bool:
    assert list(found) == list(expected) and len(found) > 5
    return all(np.allclose(found[k][h], q, rtol=1e-6, atol=1e-9) for k, of in expected.items() for h, q in of.items())  # type: ignore[arg-type]


def test_a_line_without_its_end_is_left_for_later_and_a_shrunken_file_is_refused(
    raw: pd.DataFrame, tmp_path: Path
) -> None:
    file = tmp_path / "bars.csv"
    write(raw, file, "2016-01-05T15:00Z")
    feed = Feed(file)
    first = feed.poll()
    assert first is not None
    row = raw.iloc[len(first)]
    text = pd.DataFrame([row]).to_csv(header=False, index=False)
    with file.open("a") as out:
        out.write(text[:20])
    assert feed.poll() is None
    with file.open("a") as out:
        out.write(text[20:])
    second = feed.poll()
    assert second is not None and list(second["ts"]) == [row["ts"]]
    file.write_text(file.read_text()[:500])
    with pytest.raises(ValueError, match="found it shorter"):
        feed.poll()
    with pytest.raises(ValueError, match="found nothing at"):
        Feed(tmp_path / "nowhere.csv")


@pytest.mark.parametrize(
    ("name", "header", "row"),
    [
        ("bars.csv", "ts;open;high;low;close;volume", "{t:%Y-%m-%d %H:%M};{o};{h};{l};{c};{v}"),
        ("bars.csv", "Date;Time;Open;High;Low;Close;Volume", "{t:%d.%m.%Y};{t:%H:%M};{o:c};{h:c};{l:c};{c:c};{v}"),
        ("bars.csv", "", "{t:%Y-%m-%d %H:%M},{o},{h},{l},{c},{v}"),
        ("bars.txt", "", "{t:%Y%m%d %H%M%S};{o};{h};{l};{c};{v}"),
        ("bars.csv", "", "{t:%m/%d/%Y},{t:%H:%M},{o},{h},{l},{c},{v}"),
        ("bars.csv", "ts,open,high,low,close,volume", "{t:%m/%d/%Y %H:%M},{o},{h},{l},{c},{v}"),
        ("bars.csv", "\ufeffts,open,high,low,close,volume", "{t:%Y-%m-%d %H:%M},{o},{h},{l},{c},{v}"),
        ("bars.csv", "# NQ, one minute\nts,open,high,low,close,volume", "{t:%Y-%m-%d %H:%M},{o},{h},{l},{c},{v}"),
        ("bars.tsv", "ts\topen\thigh\tlow\tclose\tvolume", "{t:%Y-%m-%d %H:%M}\t{o}\t{h}\t{l}\t{c}\t{v}"),
    ],
)
def test_a_file_that_grows_is_read_however_a_vendor_writes_it(
    name: str, header: str, row: str, raw: pd.DataFrame, tmp_path: Path
) -> None:
    class Price(float):
        def __format__(self, form: str) -> str:
            return f"{float(self):.2f}".replace(".", "," if form == "c" else ".")

    bars = raw[(raw["ts"] >= pd.Timestamp("2016-01-12T15:00Z")) & (raw["ts"] < pd.Timestamp("2016-01-14T15:00Z"))]
    written = [
        row.format(t=bar.ts, o=Price(bar.open), h=Price(bar.high), l=Price(bar.low), c=Price(bar.close), v=bar.volume)
        for bar in bars.itertuples()
    ]
    file, text = tmp_path / name, "".join(f"{line}\n" for line in [*header.splitlines(), *written])
    whole = text.encode("utf-8")
    cuts = [0, len(whole) - 6000, len(whole) - 5990, *range(len(whole) - 300, len(whole), 7), len(whole)]
    feed, found = Feed(tmp_path), []
    for begin, end in pairwise(cuts):
        with file.open("ab") as out:
            out.write(whole[begin:end])
        found += [] if (news := feed.poll()) is None else [news]
    assert len(found) > 5 and feed.poll() is None
    given = pd.concat(found, ignore_index=True)
    assert list(given["ts"]) == list(bars["ts"].dt.tz_localize(None))
    for column in ("open", "high", "low", "close", "volume"):
        np.testing.assert_array_equal(given[column], bars[column])


def test_a_file_that_grows_in_utf_16_and_at_midnight_is_read_as_it_is_as_a_whole(
    raw: pd.DataFrame, tmp_path: Path
) -> None:
    night = raw[raw["ts"] < pd.Timestamp("2016-01-05T00:20Z")]
    text = night.assign(date=night["ts"].dt.strftime("%Y%m%d"), time=night["ts"].dt.strftime("%H%M%S").astype(int))
    whole = text[["date", "time", "open", "high", "low", "close", "volume"]].to_csv(index=False).encode("utf-16")
    feed, found = Feed(tmp_path), []
    for begin, end in pairwise([0, *range(len(whole) - 1501, len(whole), 31), len(whole)]):
        with (tmp_path / "bars.csv").open("ab") as out:
            out.write(whole[begin:end])
        found += [] if (news := feed.poll()) is None else [news]
    assert len(found) > 10
    assert list(pd.concat(found)["ts"]) == list(night["ts"].dt.tz_localize(None))


def test_text_that_means_nothing_is_refused_at_the_second_look_though_it_grows(tmp_path: Path) -> None:
    """A table that is packed may still be on its way for as long as it grows, and is refused when it has stopped."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    text, packed = Feed(tmp_path / "a"), Feed(tmp_path / "b")
    for feed, name, line in ((text, "bars.csv", b"01/02/2016 14:30,1,1,1,1,1\n"), (packed, "bars.parquet", b"PAR1")):
        (feed.source / name).write_bytes(line)
        assert feed.poll() is None
        with (feed.source / name).open("ab") as file:
            file.write(line)
    with pytest.raises(ValueError, match="in one clear format, found text such as"):
        text.poll()
    assert packed.poll() is None
    with pytest.raises(ValueError, match="expected a parquet file"):
        packed.poll()


def test_a_file_that_is_written_anew_is_given_as_it_stands(raw: pd.DataFrame, tmp_path: Path) -> None:
    file, feed = tmp_path / "bars.csv", Feed(tmp_path)
    raw.iloc[100:900].to_csv(file, index=False)
    assert feed.poll() is not None
    raw.iloc[100:900].assign(volume=raw["volume"].where(raw.index != 899, 7_777)).to_csv(file, index=False)  # one row
    last = feed.poll()
    assert last is not None and last["volume"].iloc[-1] == 7_777
    newest = raw.iloc[101:920][::-1]  # newest first, and the oldest is gone
    newest.to_csv(file, index=False)
    found = feed.poll()
    assert found is not None and list(found["ts"]) == list(newest["ts"]) and feed.poll() is None


@pytest.mark.parametrize(("factor", "rows"), [(1.1, 1), (0.9, 3), (1.05, 1)])
def test_a_bad_print_under_way_is_left_out_as_ingest_leaves_it_out(
    factor: float, rows: int, raw: pd.DataFrame, forecaster: Forecaster
) -> None:
    spoilt, at = raw.copy(), raw.index[raw["ts"] == pd.Timestamp("2016-01-19T16:12Z")][0]
    spoilt.loc[at : at + rows - 1, ["open", "high", "low", "close"]] *= factor
    grid = GrowingGrid(forecaster)
    grid.add(spoilt[spoilt["ts"] < START])
    grid.table()
    grid.add(spoilt[(spoilt["ts"] >= START) & (spoilt["ts"] < SOON)])
    found, expected = grid.table(), forecaster.grid(spoilt[spoilt["ts"] < SOON])
    assert found is not None
    pd.testing.assert_frame_equal(found.tail(20).reset_index(drop=True), expected.tail(20).reset_index(drop=True))


def test_a_stamp_far_ahead_waits_alone(raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path) -> None:
    file, now = tmp_path / "bars.csv", [START]
    write(raw, file, START)
    watcher = Watcher(forecaster, Feed(file), tmp_path, lambda: pd.Timestamp(now[0]).to_pydatetime())
    assert watcher.step() == 1
    now[0] = SOON
    stray = raw["ts"].where(raw["ts"] != pd.Timestamp("2016-01-19T16:12Z"), pd.Timestamp("2066-01-19T16:12Z"))
    new = raw.assign(ts=stray)[(raw["ts"] >= START) & (raw["ts"] < SOON)]
    new.to_csv(file, mode="a", header=False, index=False)
    assert watcher.step() == 8 and not watcher.refused


def test_prices_in_another_unit_and_another_product_end_the_watch(raw: pd.DataFrame, forecaster: Forecaster) -> None:
    named = raw.assign(contract="NQH6")
    before, after = named[raw["ts"] < START], named[(raw["ts"] >= START) & (raw["ts"] < SOON)].copy()
    grid = GrowingGrid(forecaster)
    grid.add(before)
    grid.table()
    with pytest.raises(ValueError, match="contracts of ES, NQ"):
        grid.add(after.assign(contract="ESH6"))
    after[["open", "high", "low", "close"]] *= 100
    grid = GrowingGrid(forecaster)
    grid.add(before)
    grid.table()
    grid.add(after)
    with pytest.raises(ValueError, match="price unit"):
        grid.table()


def test_files_that_come_into_a_folder_are_taken_once_each(raw: pd.DataFrame, tmp_path: Path) -> None:
    feed = Feed(tmp_path)
    assert feed.poll() is None
    raw.iloc[:500].to_parquet(tmp_path / "a.parquet")
    (tmp_path / "notes.md").write_text("no bars")
    (tmp_path / "b.parquet").write_bytes(b"PAR1 half")
    first = feed.poll()
    raw.iloc[500:800].to_parquet(tmp_path / "b.parquet")
    second = feed.poll()
    assert first is not None and second is not None and (len(first), len(second)) == (500, 300)
    raw.iloc[500:801].to_parquet(tmp_path / "b.parquet")
    third = feed.poll()
    assert third is not None and list(third["ts"]) == [raw["ts"].iloc[800]]


def test_recorded_databento_files_are_a_feed(real_data: Path, tmp_path: Path) -> None:
    shutil.copy(real_data / "nq_1m_2016-09_two_contracts.dbn.zst", tmp_path)
    found = Feed(tmp_path).poll()
    assert found is not None and set(found["contract"]) == {"NQU6", "NQZ6"} and len(found) == 18_888


@pytest.mark.slow
def test_the_page_shows_fan_outcomes_and_health_in_a_browser(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path
) -> None:
    if BROWSER is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to open the page in a browser")
    file = tmp_path / "bars.csv"
    write(raw, file, START)
    watcher = Watcher(forecaster, Feed(file), tmp_path / "out")
    watcher.step()
    write(raw, file, SOON)
    watcher.step()
    server = serve(watcher, 0)
    address = f"http://127.0.0.1:{server.server_address[1]}/"
    try:
        headless = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
        done = subprocess.run([BROWSER, *headless, address], capture_output=True, text=True, timeout=200, check=True)
        dom = done.stdout
        assert 'data-ready="yes"' in dom and "the newest issued 2016-01-19T16:40:00+00:00" in dom
        assert "<svg" in dom and "median" in dom, "plotly has drawn the fan"
        assert "<td>15m</td>" in dom
        request = urllib.request.Request(address + "state.json", headers={"Host": "evil.example"})
        with pytest.raises(urllib.error.HTTPError, match="404") as refused:
            urllib.request.urlopen(request)
        refused.value.close()
    finally:
        server.shutdown()
        server.server_close()


def test_a_damaged_log_is_bad_input_with_its_line(forecaster: Forecaster, raw: pd.DataFrame, tmp_path: Path) -> None:
    write(raw, tmp_path / "live.csv", START)
    (tmp_path / OUTCOMES).write_text("nonsense\n")
    with pytest.raises(ValueError, match=rf"line 1 of .*{OUTCOMES}.*: take that line out"):
        Watcher(forecaster, Feed(tmp_path / "live.csv"), tmp_path)


def test_a_wrong_path_ends_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nothing"), "--checkpoint", str(tmp_path), "--out", str(tmp_path), "--port", "-1"]) == 1
    assert capsys.readouterr().err.startswith("error: expected")


def test_a_network_of_the_simulated_market_says_so(
    raw: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoint = random_checkpoint(build_features(build_bars(raw, IngestConfig()).bars), ScaleConfig())
    metadata = replace(checkpoint.metadata, data=DataCard(source="SIMULATED MARKET (seed 3)"))
    simulated = Forecaster(replace(checkpoint, metadata=metadata), config=ForecastConfig(min_bars=600))
    monkeypatch.setattr(nqcast, "load", lambda _, ingest: simulated)
    write(raw, tmp_path / "bars.csv", START)
    options = ["--checkpoint", "c", "--out", str(tmp_path / "out"), "--port", "-1", "--once"]
    assert main([str(tmp_path / "bars.csv"), *options]) == 0
    assert "this network was trained on the SIMULATED MARKET (seed 3): of real bars it knows nothing" in caplog.messages


def test_one_look_that_ends_without_a_forecast_says_why(
    forecaster: Forecaster, raw: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(nqcast, "load", lambda _, ingest: forecaster)
    caplog.set_level("INFO", "nqcast.live")
    options = [str(tmp_path / "bars.csv"), "--checkpoint", "c", "--out", str(tmp_path / "out"), "--once"]
    for rows, said in ((0, "no bar is there that had none yet"), (500, "bars that a forecast needs are there")):
        raw.head(rows).to_csv(tmp_path / "bars.csv", index=False)
        caplog.clear()
        assert main(options) == 0
        assert said in caplog.text and "http://" not in caplog.text
    (tmp_path / "bars.csv").write_text("ts,open,high,low,close,volume\n01/02/2016 14:30,1,1,1,1,1\n")
    assert main(options) == 1
    assert "in one clear format" in capsys.readouterr().err


def test_the_live_road_forecasts_what_the_same_bars_in_a_file_would(
    raw: pd.DataFrame, forecaster: Forecaster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)
    file, history = tmp_path / "file.csv", tmp_path / "bars" / "history.csv"
    history.parent.mkdir()
    write(raw, history, START)
    live = raw[(raw["ts"] >= START) & (raw["ts"] < EVENING)]
    minutes = {name: int((live["ts"] < name).sum()) for name in ("2016-01-19T16:03Z", SOON, EVENING)}
    with served(as_records(live), {7: str(raw["contract"].iloc[0])}, symbol="NQ.FUT") as (gateway, source):
        feed = DatabentoFeed(source, history.parent, clock(EVENING))
        watcher = Watcher(forecaster, feed, tmp_path / "live")
        assert watcher.step() == 1
        gateway.send(minutes["2016-01-19T16:03Z"])
        wait_until(lambda: watcher.step() or len((history.parent / "live.csv").read_text().splitlines()) == 4)
        assert len(watcher.forecasts) == 1, "three minutes of a bar that has not ended"
        gateway.send(minutes[SOON])
        wait_until(lambda: (watcher.step(), len(watcher.forecasts) == 9)[1])
        gateway.drop()
        feed.close()
        again = Watcher(forecaster, DatabentoFeed(source, history.parent, clock(EVENING)), tmp_path / "live")
        gateway.send(minutes[EVENING])
        wait_until(lambda: (again.step(), max(again.forecasts) == pd.Timestamp(EVENING).isoformat())[1])
        again.feed.close()
    stored = pd.read_csv(history.parent / "live.csv")
    assert len(stored) == len(live) and not stored.duplicated("ts").any()
    write(raw, file, EVENING)
    of_file = Watcher(forecaster, Feed(file), tmp_path / "file")
    of_file.forecasts = {key: again.forecasts[key] for key in list(again.forecasts)[:1]}
    of_file.step()
    made = {str(line["issue_time"]): line for line in lines(tmp_path / "live" / FORECASTS)}
    assert len(made) == len(lines(tmp_path / "live" / FORECASTS)) and list(made) == list(of_file.forecasts)
    for issued, record in of_file.forecasts.items():
        for name, quantiles in record["quantiles"].items():
            np.testing.assert_allclose(made[issued]["quantiles"][name], quantiles, rtol=1e-6, atol=1e-9)

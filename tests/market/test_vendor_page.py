"""Each row of docs/vendors.md, from a file written in that vendor's manner, with what the row says beside it."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tests.kedro_command import PROJECT
from tests.market.deceiving import NAMES, PRICES, as_csv, local, market

from nqcast.market.calendar import nanoseconds
from nqcast.market.ingest import build_bars
from nqcast.market.look import ingest_config, main
from nqcast.market.vendor import read_bars

Write = Callable[[pd.DataFrame, Path], Path]
PAGE = (PROJECT / "docs" / "vendors.md").read_text()
ROWS = {
    cells[0].strip(): cells[2]
    for line in PAGE.splitlines()
    if len(cells := line.strip("|").split("|")) == 3 and not set(cells[0]) <= set(" -")
}


def _stamps(raw: pd.DataFrame, pattern: str, zone: str = "UTC", ahead: pd.Timedelta | None = None) -> pd.Series:
    return (local(raw, zone) + (ahead or pd.Timedelta(0))).dt.strftime(pattern)


def _bare(pattern: str, zone: str, sep: str = ",", ahead: pd.Timedelta | None = None) -> Write:
    def write(raw: pd.DataFrame, folder: Path) -> Path:
        columns = [_stamps(raw, each, zone, ahead) for each in pattern.split("|")]
        frame = pd.concat([*columns, raw[NAMES[1:]]], axis=1)
        return as_csv(frame, folder, "NQ.txt", header=False, sep=sep)

    return write


def _databento(raw: pd.DataFrame, folder: Path) -> Path:
    fixed = {name: (raw[name] * 1e9).round().astype("int64") for name in PRICES}
    frame = raw.assign(ts=nanoseconds(raw["ts"]), **fixed).rename(columns={"ts": "ts_event"})
    return as_csv(frame.assign(rtype=33, publisher_id=1, instrument_id=7001, symbol="NQH6"), folder)


def _tradestation(raw: pd.DataFrame, folder: Path) -> Path:
    minute = pd.Timedelta(minutes=1)
    frame = pd.DataFrame({"Date": _stamps(raw, "%m/%d/%Y", "America/Chicago", minute)})
    frame["Time"] = _stamps(raw, "%H:%M", "America/Chicago", minute)
    frame = frame.join(raw[PRICES].rename(columns=str.title))
    return as_csv(frame.assign(Up=raw["volume"] // 3, Down=raw["volume"] - raw["volume"] // 3), folder, quoting=2)


def _barchart(raw: pd.DataFrame, folder: Path) -> Path:
    frame = raw.assign(ts=_stamps(raw, "%m/%d/%Y %H:%M", "America/Chicago"), Change=0.25)
    named = frame.set_axis(["Time", "Open", "High", "Low", "Last", "Volume", "Change"], axis=1)
    path = as_csv(named[["Time", "Open", "High", "Low", "Last", "Change", "Volume"]][::-1], folder)
    path.write_text(path.read_text() + '"Downloaded from Barchart.com as of 02-26-2016 04:12pm CST"\n')
    return path


def _sierra(raw: pd.DataFrame, folder: Path) -> Path:
    frame = pd.DataFrame({"Date": _stamps(raw, "%Y/%m/%d", "America/Chicago")})
    frame[" Time"] = _stamps(raw, "%H:%M:%S.000000", "America/Chicago")
    frame = frame.join(
        raw.rename(columns={"close": "last"})[["open", "high", "low", "last", "volume"]].rename(columns=" {}".format)
    )
    frame.columns = [name.title() for name in frame.columns]
    return as_csv(frame.assign(**{" NumberOfTrades": 3, " BidVolume": 1, " AskVolume": 2}), folder, "NQZ16-CME.txt")


def _metatrader(raw: pd.DataFrame, folder: Path) -> Path:
    ahead = pd.Timedelta(hours=7)
    frame = pd.DataFrame({"<DATE>": _stamps(raw, "%Y.%m.%d", "America/New_York", ahead)})
    frame["<TIME>"] = _stamps(raw, "%H:%M:%S", "America/New_York", ahead)
    frame = frame.join(raw[PRICES].rename(columns=lambda name: f"<{name.upper()}>"))
    return as_csv(frame.assign(**{"<TICKVOL>": raw["volume"], "<VOL>": 0, "<SPREAD>": 1}), folder, sep="\t")


def _stooq(raw: pd.DataFrame, folder: Path) -> Path:
    frame = pd.DataFrame(
        {"<TICKER>": "NQ.F", "<PER>": 1, "<DATE>": _stamps(raw, "%Y%m%d"), "<TIME>": _stamps(raw, "%H%M%S")}
    )
    frame = frame.join(raw[PRICES].rename(columns=lambda name: f"<{name.upper()}>"))
    return as_csv(frame.assign(**{"<VOL>": raw["volume"], "<OPENINT>": 0}), folder, "nq_f.txt")


def _yfinance(raw: pd.DataFrame, folder: Path) -> Path:
    columns = pd.MultiIndex.from_product(
        [["Open", "High", "Low", "Close", "Volume"], ["NQ=F"]], names=["Price", "Ticker"]
    )
    frame = raw[NAMES[1:]].set_axis(columns, axis=1)
    frame.index = pd.DatetimeIndex(raw["ts"], name="Datetime")
    return as_csv(frame, folder, index=True)


def _bloomberg(raw: pd.DataFrame, folder: Path) -> Path:
    frame = raw.assign(ts=_stamps(raw, "%m/%d/%y %H:%M", "America/New_York"))
    path = as_csv(frame.rename(columns=lambda name: "Date" if name == "ts" else name.title()), folder)
    path.write_text(f"NQH6 Index\nInterval: 1\n{path.read_text()}")
    return path


WRITERS: dict[str, Write] = {
    "Databento": _databento,
    "FirstRate": _bare("%Y-%m-%d %H:%M:%S", "America/New_York"),
    "Kibot": _bare("%m/%d/%Y|%H:%M", "America/New_York"),
    "NinjaTrader": _bare("%Y%m%d %H%M%S", "UTC", ";", pd.Timedelta(minutes=1)),
    "TradingView": lambda raw, folder: as_csv(
        raw.assign(ts=nanoseconds(raw["ts"]) // 10**9).rename(columns={"ts": "time", "volume": "Volume"}), folder
    ),
    "IB/TWS": lambda raw, folder: as_csv(
        raw.assign(ts=_stamps(raw, "%Y%m%d %H:%M:%S US/Central", "America/Chicago"), average=1.0, barCount=3).rename(
            columns={"ts": "date"}
        ),
        folder,
    ),
    "Sierra": _sierra,
    "MT4/5": _metatrader,
    "TradeStation": _tradestation,
    "Barchart": _barchart,
    "Polygon": lambda raw, folder: as_csv(
        raw.assign(ts=nanoseconds(raw["ts"]) // 10**6, vw=1.0, n=3).set_axis([*"tohlcv", "vw", "n"], axis=1), folder
    ),
    "Alpaca": lambda raw, folder: as_csv(
        raw.assign(symbol="NQH6", trade_count=3, vwap=1.0).rename(columns={"ts": "timestamp"}), folder
    ),
    "yfinance": _yfinance,
    "HistData": lambda raw, folder: _bare("%Y%m%d %H%M%S", "Etc/GMT+5", ";")(raw.assign(volume=0), folder),
    "Dukascopy": lambda raw, folder: as_csv(
        raw.assign(ts=_stamps(raw, "%d.%m.%Y %H:%M:%S.000 GMT+0000"), volume=raw["volume"] / 1000).rename(
            columns=lambda name: "Gmt time" if name == "ts" else name.title()
        ),
        folder,
    ),
    "Stooq": _stooq,
    "AmiBroker": lambda raw, folder: as_csv(
        raw.assign(ts=_stamps(raw, "%d/%m/%Y %H:%M:%S", "America/Chicago"), Ticker="NQH16").rename(
            columns=lambda name: "Date/Time" if name == "ts" else name.title()
        ),
        folder,
    ),
    "Bloomberg": _bloomberg,
    "MetaStock": lambda raw, folder: as_csv(
        pd.read_csv(_stooq(raw, folder), dtype="str").rename(columns={"<DATE>": "<DTYYYYMMDD>"}), folder
    ),
    "Refinitiv": lambda raw, folder: as_csv(
        raw.assign(ts=_stamps(raw, "%Y-%m-%dT%H:%M:%S.000000000Z"), Type="Intraday 1Min", **{"#RIC": "NQH6"}).rename(
            columns={"ts": "Date-Time", "close": "Last"}
        ),
        folder,
    ),
}


def test_the_page_has_a_row_for_every_vendor() -> None:
    assert set(WRITERS) <= set(ROWS)


@pytest.mark.parametrize("vendor", WRITERS)
def test_a_vendors_file_gives_the_same_bars_with_what_its_row_says(vendor: str, tmp_path: Path) -> None:
    raw = market()
    said = ",".join(part for part in re.findall(r"`([^`]+)`", ROWS[vendor])[:1] if "nothing" not in ROWS[vendor])
    config = ingest_config(said)
    found = build_bars(read_bars(WRITERS[vendor](raw, tmp_path)), config)
    assert found.report["doubts"] == [] and len(found.quarantine) == (vendor == "Barchart")
    expected = build_bars(raw, config.model_copy(update={"stamps": "start", "naive_timezone": None})).bars
    pd.testing.assert_frame_equal(found.bars.drop(columns="contract"), expected.drop(columns="contract"))


def test_check_says_in_twenty_lines_what_a_file_is_taken_for_and_ends_with_1_where_something_is_odd(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = market()
    good = as_csv(raw.assign(symbol="NQH6"), tmp_path)
    assert main([str(good)]) == 0
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 20 and max(map(len, text.splitlines())) <= 80
    for said in (
        "NQ 2016-02-21T23:00",
        "1-minute bars of NQH6",
        "in the zone that the file names",
        "volume",
    ):
        assert said in text
    odd = as_csv(raw.assign(open=raw["close"], close=raw["open"]), tmp_path, "odd.csv")
    assert main([str(odd)]) == 1
    text = capsys.readouterr().out
    assert "odd: opens do not follow closes" in text and max(map(len, text.splitlines())) <= 80
    naive = as_csv(raw.assign(ts=local(raw)), tmp_path, "naive.csv")
    assert main([str(naive)]) == 1 and "naive_timezone" in capsys.readouterr().out
    assert main([str(naive), "--params", "ingest.naive_timezone=America/Chicago,features.volume=false"]) == 0
    assert main([str(naive), "--params", "ingest.naive_timezone"]) == 1
    capsys.readouterr()
    assert main([str(naive), "--params", "ingest.naive_timezone=America/New_York"]) == 1
    assert "they fit America/Chicago" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", "missing.csv"])
def test_check_refuses_a_path_that_cannot_be_one_in_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([name]) == 1
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_check_is_a_word_of_the_command_and_needs_neither_kedro_nor_torch(tmp_path: Path) -> None:
    path = as_csv(market().head(2000), tmp_path)
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "nqcast", "check", str(path)],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "1-minute bars" in done.stdout
    assert not re.search(r"\| +(kedro|torch|mlflow)$", done.stderr, flags=re.MULTILINE)


def test_a_look_takes_a_file_without_volume_and_says_what_is_too_short(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = market().drop(columns="volume")
    file = as_csv(raw, tmp_path)
    assert main([str(file)]) == 0
    said = capsys.readouterr().out
    assert "volume: left out" in said
    assert ("short: " in said) == (int(re.search(r"in (\d+) sessions", said)[1]) < 20)
    assert main([str(as_csv(raw.head(400), tmp_path)), "--params", "ingest.volume=true"]) == 1
    assert "expected a column 'volume'" in capsys.readouterr().out
    assert main([str(as_csv(raw.head(400), tmp_path)), "--params", "ingest.zero_volume=keep"]) == 0
    said = capsys.readouterr().out
    assert "a forecast takes 20 before it, training three months" in said
    assert "missing stretches" in said and " min  " not in said  # what lies before the first bar and after the last


def test_a_hole_inside_a_file_is_named_and_its_ends_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = market().iloc[120:4000]
    main([str(as_csv(raw.drop(raw.index[900:1000]), tmp_path))])
    stretches = re.findall(r"^    (\S+ \S+) +(\d+) min", capsys.readouterr().out, flags=re.MULTILINE)
    first, last = (stamp.strftime("%Y-%m-%d %H:%M") for stamp in (raw["ts"].iloc[0], raw["ts"].iloc[-1]))
    assert len(stretches) >= 1 and all(first <= start <= last for start, _ in stretches)

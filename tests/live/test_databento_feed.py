"""Databento's live gateway behind the door of `nqcast watch`: nothing lost, no bar twice, whatever is cut."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import databento
import databento_dbn as dbn
import pandas as pd
import pytest
from tests.live.gateway import COLUMNS, KEY, as_records, clock, served, wait_until

from nqcast.live.command import main
from nqcast.live.databento_feed import FILE, HEADER, DatabentoFeed
from nqcast.market.vendor import read_bars


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", KEY)


# Polls for ever and says how many bars it has been given.
POLLING = """
import sys, time
from pathlib import Path
import pandas as pd
from nqcast.live.databento_feed import DatabentoFeed
feed, given = DatabentoFeed(sys.argv[1], Path(sys.argv[2]), lambda: pd.Timestamp(sys.argv[3])), 0
while True:
    if (news := feed.poll()) is not None:
        given += len(news)
        print(given, flush=True)
    time.sleep(0.01)
"""


def gather(feed: DatabentoFeed, number: int) -> pd.DataFrame:
    """Poll until this many bars have come."""
    frames: list[pd.DataFrame] = []

    def enough() -> bool:
        if (news := feed.poll()) is not None:
            frames.append(news)
        return sum(map(len, frames)) >= number

    wait_until(enough)
    return pd.concat(frames, ignore_index=True)


def test_recorded_bars_come_once_and_all_over_a_drop_and_a_kill(real_data: Path, tmp_path: Path) -> None:
    """1,500 recorded minutes over a roll; half a record is cut off, then the process is killed, then goes on."""
    file = real_data / "nq_1m_2016-09_continuous.dbn.zst"
    stored = databento.DBNStore.from_bytes(file.read_bytes())
    records, wanted = [bar for bar in stored if isinstance(bar, dbn.OHLCVMsg)], read_bars(file)[COLUMNS]
    roll = int((wanted["contract"] != wanted["contract"].iloc[0]).to_numpy().argmax())
    records = records[roll - 1100 : roll + 400]
    wanted = wanted[roll - 1100 : roll + 400].reset_index(drop=True)
    names = {90001: "NQU6", 90002: "NQZ6"}  # the gateway tells them, a file of this symbol does not
    assert set(wanted["contract"]) == {"NQ.v.0#90001", "NQ.v.0#90002"}
    last = str(wanted["ts"].iloc[-1])
    with served(records, names) as (gateway, source):
        command = [sys.executable, "-c", POLLING, source, str(tmp_path), last]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            gateway.send(1000)
            assert next(line for line in process.stdout if int(line) >= 1000) == "1000\n"
            gateway.drop()
            wait_until(lambda: len(gateway.subscriptions) == 2)
            gateway.send(1200)
            assert next(line for line in process.stdout if int(line) >= 1200) == "1200\n"
            process.kill()
        with (tmp_path / FILE).open("ab") as live:
            live.write(b"2016-09-16T20:5")  # what a kill leaves of a line
        gateway.send(1500)
        again = DatabentoFeed(source, tmp_path, clock(last))
        found = gather(again, 1500)
        again.close()
    pd.testing.assert_frame_equal(found[COLUMNS], wanted, check_dtype=False, check_categorical=False)
    starts = [int(asked["start"]) for asked in gateway.subscriptions]
    assert starts == [0, wanted["ts"].iloc[999].value, wanted["ts"].iloc[1199].value]
    asked = {name: gateway.subscriptions[0][name] for name in ("schema", "stype_in", "symbols")}
    assert asked == {"schema": "ohlcv-1m", "stype_in": "continuous", "symbols": "NQ.v.0"}


def test_what_is_older_than_the_gateway_sends_again_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "history.csv").write_text(HEADER.decode() + "2016-01-19T15:59:00Z,1,1,1,1,1,NQH6\n")
    with served([], {}) as (gateway, source):
        DatabentoFeed(source, tmp_path, clock("2016-01-25T00:00Z")).close()
        wait_until(lambda: gateway.subscriptions)
    assert gateway.subscriptions[0]["start"] == "0" and "has to come as a file" in caplog.text


@pytest.mark.parametrize(("symbol", "asked"), [("NQ.v.0", 2), ("NQH6", 1)])
def test_a_continuous_symbol_is_asked_anew_in_the_break_of_another_day(symbol: str, asked: int, tmp_path: Path) -> None:
    """The gateway goes on with the contract of the day on which it was asked, and a roll would never come."""
    minutes = pd.DatetimeIndex([f"2016-03-{t}Z" for t in ("09T23:57", "09T23:58", "09T23:59", "10T01:00", "10T01:01")])
    bars = pd.DataFrame({"ts": minutes, "open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, "volume": 1})
    time = ["2016-03-09T15:00Z"]
    with served(as_records(bars), {7: "NQH6", 8: "NQM6"}, symbol=symbol) as (gateway, source):
        gateway.later = as_records(bars.iloc[:3]) + as_records(bars.iloc[3:], 8)
        feed = DatabentoFeed(source, tmp_path, lambda: pd.Timestamp(time[0]).to_pydatetime())
        time[0] = "2016-03-09T23:59Z"
        assert feed.poll() is None
        gateway.send(3)
        assert len(gather(feed, 3)) == 3
        time[0] = "2016-03-10T00:08Z"
        assert feed.poll() is None and len(gateway.subscriptions) == 1, "quiet on the same day; a bar has just come"
        for time[0] in ("2016-03-10T00:09Z", "2016-03-10T00:40Z"):
            assert feed.poll() is None
        gateway.send(5)
        found = gather(feed, 2)
        feed.close()
    assert len(gateway.subscriptions) == asked
    assert list(found["ts"]) == list(minutes[3:])
    assert set(found["contract"]) == {"NQ.v.0#8" if asked == 2 else "NQH6"}


@pytest.mark.parametrize(
    ("source", "key", "words"),
    [
        ("databento://GLBX.MDP3", KEY, "expected databento://DATASET/SYMBOL"),
        ("databento://GLBX.MDP3/NQ.v.0", "", "found none: set it"),
        ("databento://GLBX.MDP3/NQ.v.0?gateway=127.0.0.1:9", KEY, "expected a session at Databento's gateway"),
        ("", KEY[::-1], "User authentication failed"),
    ],
)
def test_what_is_wrong_with_the_way_to_the_gateway_is_one_line(
    source: str, key: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABENTO_API_KEY", key)
    with served([], {}) as (_, own), pytest.raises(ValueError, match=words) as told:
        DatabentoFeed(source or own, tmp_path)
    assert "\n" not in str(told.value) and (not key or key not in str(told.value))


def test_a_symbol_that_the_gateway_refuses_ends_the_watch_with_its_words(tmp_path: Path) -> None:
    with served([], {}, refusal="Unknown symbol NQ.v.0") as (_, source):
        feed = DatabentoFeed(source, tmp_path)
        with pytest.raises(ValueError, match=r"refusal \(Unknown symbol NQ\.v\.0\): check the symbol"):
            wait_until(lambda: feed.poll() is not None)
        feed.close()


def test_the_command_says_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("DATABENTO_API_KEY")
    assert main(["databento://GLBX.MDP3/NQ.v.0", "--out", str(tmp_path), "--port", "-1"]) == 1
    assert "error: expected your key to Databento in the variable DATABENTO_API_KEY" in capsys.readouterr().err

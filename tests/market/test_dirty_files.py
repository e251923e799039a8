"""Any mixture of dirt ends in equal bars, a quarantine, a doubt or one line; never in a changed forecast in silence."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.market.deceiving import NAMES, PRICES, local, market

from nqcast.market.calendar import nanoseconds
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import Ingested, build_bars
from nqcast.market.vendor import read_bars

EXAMPLES = int(os.environ.get("NQCAST_DIRTY_EXAMPLES", "200"))  # the nightly target asks for 2,000
Rows = Callable[[pd.DataFrame, int], pd.DataFrame]


def _set(frame: pd.DataFrame, row: int, **values: Any) -> pd.DataFrame:
    for name, value in values.items():
        frame.loc[row, name] = value
    return frame


def _scaled(factor: float, columns: list[str]) -> Rows:
    return lambda frame, row: _set(frame, row, **{name: round(frame.loc[row, name] * factor) for name in columns})


def _moved(when: str) -> Rows:
    return lambda frame, row: _set(frame, row, ts=pd.Timestamp(when, tz="UTC"))


def _again(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    return pd.concat([frame, frame.loc[[row]]], ignore_index=True)


def _filler(price: float | None) -> Rows:
    """A minute without a trade, as vendors fill it: flat at the last close, or empty."""

    def add(frame: pd.DataFrame, row: int) -> pd.DataFrame:
        later = pd.date_range(frame.loc[row, "ts"], periods=4000, freq="min")[1:]
        ts = later[~later.isin(frame["ts"])][0]
        value = np.nan if price is None else frame.loc[row, "close"]
        return pd.concat(
            [frame, pd.DataFrame([{"ts": ts, **dict.fromkeys(PRICES, value), "volume": 0}])], ignore_index=True
        )

    return add


FAULTS: dict[str, Rows] = {
    "spike": _scaled(1.06, PRICES),
    "dip": _scaled(0.9, PRICES),
    "high": _scaled(1.05, ["high"]),
    "no price": lambda frame, row: _set(frame, row, open=np.nan),
    "negative": lambda frame, row: _set(frame, row, low=-1.0),
    "turned": lambda frame, row: _set(frame, row, high=frame.loc[row, "low"] - 5),
    "in 2066": _moved("2066-02-24 12:00"),
    "in 2006": _moved("2006-02-24 12:00"),
    "at 1970": _moved("1970-01-01 00:00"),
    "no volume": lambda frame, row: _set(frame, row, volume=np.nan),
}
"""Each takes the row away."""
HARMLESS: dict[str, Rows] = {"again": _again, "filler": _filler(1.0), "empty": _filler(None)}
ORDERS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "as it is": lambda frame: frame,
    "newest first": lambda frame: frame[::-1],
    "shuffled": lambda frame: frame.sample(frac=1, random_state=1),
}
STAMPS: dict[str, tuple[Callable[[pd.DataFrame], Any], str | None]] = {
    "ISO": (lambda frame: frame["ts"].map(lambda ts: ts.isoformat()), None),
    "milliseconds": (lambda frame: nanoseconds(frame["ts"]) // 10**6, None),
    "UTC behind": (lambda frame: frame["ts"].dt.strftime("%Y-%m-%d %H:%M:%S UTC"), None),
    "Chicago": (lambda frame: local(frame).dt.strftime("%m/%d/%Y %H:%M"), "America/Chicago"),
    "twelve hours": (lambda frame: local(frame).dt.strftime("%d-%b-%Y %I:%M:%S %p"), "America/Chicago"),
    "second 59": (lambda frame: (frame["ts"] + pd.Timedelta(seconds=59)).dt.strftime("%Y-%m-%dT%H:%M:%SZ"), None),
}
MEANINGS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "open and close exchanged": lambda frame: frame.rename(columns={"open": "close", "close": "open"}),
    "closes alone": lambda frame: frame.assign(**dict.fromkeys(PRICES, frame["close"])),
    "times 100": lambda frame: frame.assign(**{name: frame[name] * 100 for name in PRICES}),
    "volume summed up": lambda frame: frame.sort_values("ts").assign(
        volume=lambda rows: rows["volume"].fillna(0).cumsum()
    ),
    "an hour late": lambda frame: frame.assign(ts=frame["ts"] + pd.Timedelta(hours=1)),
}
"""Each must end in a doubt or an error."""
LINES = ("", "Downloaded on 02-26-2016 04:12pm CST", ",".join(NAMES), ",,,,,")


@pytest.fixture(scope="module")
def clean() -> pd.DataFrame:
    return market(date(2016, 2, 22), 3).astype({"volume": float})


@pytest.fixture(scope="module")
def without(clean: pd.DataFrame) -> Callable[[frozenset[pd.Timestamp]], pd.DataFrame]:
    """The bars of the clean file without the rows of these stamps, made once of each set of rows."""
    return cache(lambda lost: build_bars(clean[~clean["ts"].isin(lost)], IngestConfig()).bars)


def _read(frame: pd.DataFrame, stamps: str, separator: str, line: str, at: int) -> Ingested | str:
    """The file's end: bars, or the one line that refuses it."""
    written, zone = STAMPS[stamps]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bars.csv"
        frame.assign(ts=written(frame)).to_csv(path, index=False, sep=separator)
        lines = path.read_text().splitlines()
        lines[at:at] = [line.replace(",", separator)] if line else []
        path.write_text("\n".join(lines))
        try:
            return build_bars(read_bars(path), IngestConfig(naive_timezone=zone, doubtful="warn"))
        except ValueError as error:
            return str(error)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 200, database=None, print_blob=True,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(
    faults=st.lists(
        st.tuples(st.sampled_from(sorted(FAULTS)), st.integers(2, 125)), max_size=8, unique_by=lambda f: f[1]
    ),
    harmless=st.lists(st.tuples(st.sampled_from(sorted(HARMLESS)), st.integers(2, 125)), max_size=4),
    order=st.sampled_from(sorted(ORDERS)),
    stamps=st.sampled_from(sorted(STAMPS)),
    separator=st.sampled_from([",", ";", "\t"]),
    line=st.sampled_from(LINES),
    at=st.integers(1, 3500),
    meaning=st.none() | st.none() | st.sampled_from(sorted(MEANINGS)),
)
def test_any_mixture_ends_in_equal_bars_a_quarantine_a_doubt_or_one_line(
    clean: pd.DataFrame,
    without: Callable[[frozenset[pd.Timestamp]], pd.DataFrame],
    faults: list[tuple[str, int]],
    harmless: list[tuple[str, int]],
    order: str,
    stamps: str,
    separator: str,
    line: str,
    at: int,
    meaning: str | None,
) -> None:
    frame, lost = clean.copy(), set()
    for name, place in harmless:
        frame = HARMLESS[name](frame, 30 * place + 11)
    for name, place in faults:  # thirty rows apart: a bad print is told by its neighbours
        lost.add(frame.loc[30 * place, "ts"])
        frame = FAULTS[name](frame, 30 * place)
    frame = MEANINGS[meaning](ORDERS[order](frame)) if meaning else ORDERS[order](frame)
    found = _read(frame, stamps, separator, line, at)
    if isinstance(found, str):
        assert "\n" not in found and "expected" in found and "found" in found
        assert meaning or len(lost) > 0.005 * len(clean), f"a sound file is refused: {found}"
        return
    assert {"reason"} <= set(found.quarantine) and (found.quarantine["reason"] != "").all()
    if meaning:
        assert found.report["doubts"], f"{meaning} passes in silence"
        return
    assert len(found.quarantine) >= len(lost)
    expected = without(frozenset(lost))
    pd.testing.assert_frame_equal(found.bars.drop(columns="contract"), expected.drop(columns="contract"))

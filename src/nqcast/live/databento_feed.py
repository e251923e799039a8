"""Bars as Databento's live gateway sends them: kept in a file of the folder that is watched, and read from there."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.live.feed import Feed
from nqcast.storage.append_only import append_line

log = logging.getLogger(__name__)

SCHEME, KEY = "databento://", "DATABENTO_API_KEY"
FILE, HEADER = "live.csv", b"ts,open,high,low,close,volume,contract\n"
REPLAYED = pd.Timedelta(hours=24)
"""How far back the gateway sends again what was missed."""
_SOURCE = re.compile(rf"{SCHEME}(?P<dataset>[A-Z0-9.]+)/(?P<symbol>[\w.]+)(\?gateway=(?P<host>[\w.-]+):(?P<port>\d+))?")
QUIET = pd.Timedelta(minutes=10)
"""How long no bar has come before a continuous symbol is asked for anew: the daily break, in which none is missed."""
_WAITS = (1.0, 60.0)  # seconds between tries to connect anew: the first, the longest


class DatabentoFeed(Feed):
    """`poll()` gives what lies in `folder` and then every one-minute bar that has ended, each once.

    A bar is on the disk before it is given. After a dropped connection, or in the next process, the gateway is asked to
    send again from the last bar that is there, and what is known is left out. The gateway never maps a continuous
    symbol anew within a session, so its session is opened anew on every day (UTC), at the first pause of `QUIET`.

    Args:
        source: `databento://DATASET/SYMBOL`, the symbol raw (NQZ6), continuous (NQ.v.0) or of a parent (NQ.FUT);
            `?gateway=HOST:PORT` names another gateway than Databento's.
        folder: files of the bars before, and the file of those that come.
        now: the clock.
    """

    def __init__(self, source: str, folder: Path, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        found = _SOURCE.fullmatch(source)
        if found is None:
            raise ValueError(f"expected {SCHEME}DATASET/SYMBOL, such as {SCHEME}GLBX.MDP3/NQ.v.0, found {source}")
        self._asked, self._now, self._file = found, now, folder / FILE
        folder.mkdir(parents=True, exist_ok=True)
        append_line(self._file, b"")  # cuts off what a kill left of a line
        if not self._file.stat().st_size:
            append_line(self._file, HEADER)
        super().__init__(folder)
        self._history = super().poll()
        self._last = _last_stamps(self._history)
        self._again, self._wait = 0.0, _WAITS[0]
        self._had_bars = False
        self._contracts: dict[int, str] = {}
        self._connect()

    def poll(self) -> pd.DataFrame | None:
        """Bars that were not given before (ts, open, high, low, close, volume, contract), None where there are none.

        Raises:
            ValueError: the gateway refused the subscription, and has never sent a bar.
        """
        dropped = not self._client.is_connected()  # asked before the queue is emptied: nothing comes after that
        self._take()
        if dropped and time.monotonic() >= self._again:
            log.warning("the connection to Databento was lost; a new one begins with the last bar that is there")
            self._reconnect()
        elif not dropped and self._outdated():
            log.info("%s is asked anew: its contract may be another today", self._asked["symbol"])
            self._reconnect()
        history, self._history = self._history, None
        found = [frame for frame in (history, super().poll()) if frame is not None]
        return pd.concat(found, ignore_index=True) if found else None

    def close(self) -> None:
        """End the connection; an error that ended it earlier has been logged by then."""
        from databento import BentoError

        self._client.terminate()
        with contextlib.suppress(BentoError):
            self._client.block_for_close(timeout=1.0)

    def _connect(self) -> None:
        """Open a session that begins with what was missed; ValueError where the gateway does not let one in."""
        import databento

        self._records: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._opened = self._came = self._now()
        host, port = self._asked["host"], int(self._asked["port"] or 13_000)
        symbol = self._asked["symbol"]
        try:
            self._client = databento.Live(key=_key(), gateway=host, port=port)
            self._client.add_callback(self._records.put)
            self._client.subscribe(self._asked["dataset"], "ohlcv-1m", [symbol], _kind(symbol), start=self._start())
            self._client.start()
        except (databento.BentoError, OSError) as error:
            raise ValueError(
                f"expected a session at Databento's gateway, found none ({error}): check {KEY}, its rights to "
                f"{self._asked['dataset']} live, and the network"
            ) from error

    def _start(self) -> int:
        """Where the gateway has to begin, in nanoseconds; 0 is all that it still has."""
        if not self._last:
            return 0
        last = max(self._last.values())
        if self._now() - last <= REPLAYED:
            return int(last.value)
        log.warning("the last bar is of %s: what the gateway no longer sends again has to come as a file", last)
        return 0

    def _outdated(self) -> bool:
        """Whether a continuous symbol was asked for on an earlier day, and the market pauses."""
        now = self._now()
        asked_before = now.astimezone(UTC).date() > self._opened.astimezone(UTC).date()
        return _kind(self._asked["symbol"]) == "continuous" and asked_before and now - self._came >= QUIET

    def _reconnect(self) -> None:
        self.close()
        self._again, self._wait = time.monotonic() + self._wait, min(2 * self._wait, _WAITS[1])
        try:
            self._connect()
        except ValueError as error:
            log.warning("%s", error)

    def _take(self) -> None:
        """Keep the bars that have come, and learn which contracts they are of."""
        lines = []
        while not self._records.empty():
            record = self._records.get()
            if (name := type(record).__name__) == "SymbolMappingMsg":
                self._contracts[record.instrument_id] = record.stype_out_symbol
            elif name == "OHLCVMsg" and (line := self._line(record)):
                lines.append(line)
            elif name == "ErrorMsg":
                self._refused(record.err)
        if lines:
            append_line(self._file, "".join(lines).encode())
            self._had_bars, self._wait, self._came = True, _WAITS[0], self._now()

    def _line(self, bar: Any) -> str:
        """The bar as a line of the file; empty where it is known."""
        ts, contract = pd.Timestamp(bar.ts_event, tz="UTC"), self._contract(bar.instrument_id)
        if contract in self._last and ts <= self._last[contract]:
            return ""
        self._last[contract] = ts
        prices = (bar.pretty_open, bar.pretty_high, bar.pretty_low, bar.pretty_close)
        return ",".join([ts.isoformat(), *map(repr, prices), str(bar.volume), contract]) + "\n"

    def _contract(self, number: int) -> str:
        """The name that a file of the same symbol gives it: a continuous one knows its contracts by number alone."""
        symbol = self._asked["symbol"]
        return f"{symbol}#{number}" if _kind(symbol) == "continuous" else self._contracts[number]

    def _refused(self, reason: str) -> None:
        if not self._had_bars:
            raise ValueError(
                f"expected bars of {self._asked['symbol']} from Databento, found its gateway's refusal ({reason}): "
                f"check the symbol, and that your key may read {self._asked['dataset']} live"
            )
        log.warning("Databento's gateway: %s", reason)


def _last_stamps(bars: pd.DataFrame | None) -> dict[str, pd.Timestamp]:
    """The stamp of the last bar of every contract."""
    if bars is None:
        return {}
    if "contract" not in bars or bars["contract"].isna().any() or bars["ts"].dt.tz is None:
        raise ValueError(
            "expected a contract and a time zone with every bar in the folder of live bars, found some without: export "
            "them with both"
        )
    return {str(contract): ts for contract, ts in bars.groupby("contract")["ts"].max().items()}


def _kind(symbol: str) -> str:
    if re.fullmatch(r"\w+\.[vcn]\.\d+", symbol):
        return "continuous"
    return "parent" if symbol.endswith((".FUT", ".OPT")) else "raw_symbol"


def _key() -> str:
    if key := os.environ.get(KEY, "").strip():
        return key
    raise ValueError(f"expected your key to Databento in the variable {KEY}, found none: set it (databento.com, Keys)")

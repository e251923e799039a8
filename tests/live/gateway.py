"""A gateway on loopback that speaks the protocol of Databento's live subscription gateway and sends what it was given.

Lines of text first: greeting, challenge, the client's answer (SHA-256 of `challenge|key`, then the key's last five
characters), its subscriptions, `start_session`; from then on a DBN stream: metadata, symbol mappings, records.
"""

from __future__ import annotations

import contextlib
import hashlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

import databento_dbn as dbn
import pandas as pd

COLUMNS = ["ts", "open", "high", "low", "close", "volume", "contract"]
KEY = "db-0123456789abcdefghijklmnop"


class Gateway:
    """Sends the records up to `until`; raise it with `send`, and end the connection inside a record with `drop`."""

    def __init__(self, records: Sequence[dbn.OHLCVMsg], contracts: dict[int, str], refusal: str = "") -> None:
        self.records, self.contracts, self.refusal = records, contracts, refusal
        self.later: Sequence[dbn.OHLCVMsg] = records
        """What subscriptions after the first one get: a continuous symbol is mapped once, when it is subscribed to."""
        self.subscriptions: list[dict[str, str]] = []
        self._until, self._dropping, self._closed = 0, False, False
        self._news = threading.Condition()
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, until: int) -> None:
        """Let the records before this number be out."""
        with self._news:
            self._until = until
            self._news.notify_all()

    def drop(self) -> None:
        """Send half of the next record and hang up."""
        with self._news:
            self._dropping = True
            self._news.notify_all()

    def close(self) -> None:
        with self._news:
            self._closed = True
            self._news.notify_all()
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            threading.Thread(target=self._session, args=(client,), daemon=True).start()

    def _session(self, client: socket.socket) -> None:
        with client, client.makefile("rb") as lines, contextlib.suppress(ConnectionError):  # who hangs up owes nothing
            client.sendall(b"lsg_version=0.7.3\ncram=a-challenge\n")
            asked = _fields(lines.readline())
            expected = hashlib.sha256(f"a-challenge|{KEY}".encode()).hexdigest() + f"-{KEY[-5:]}"
            if asked["auth"] != expected:
                client.sendall(b"success=0|error=User authentication failed.\n")
                return
            client.sendall(b"success=1|session_id=1\n")
            while "start_session" not in (asked := _fields(lines.readline())):
                self.subscriptions.append(asked)
            self._stream(client, int(self.subscriptions[-1].get("start") or 0))

    def _stream(self, client: socket.socket, start: int) -> None:
        metadata = dbn.Metadata("GLBX.MDP3", 0, None, dbn.SType.INSTRUMENT_ID, None, version=3)
        mappings = [
            dbn.SymbolMappingMsg(1, number, 0, dbn.SType.CONTINUOUS, "NQ.v.0", dbn.SType.RAW_SYMBOL, name, 0, 2**63)
            for number, name in self.contracts.items()
        ]
        client.sendall(b"".join(map(bytes, (metadata, *mappings))))
        if self.refusal:
            client.sendall(bytes(dbn.ErrorMsg(0, self.refusal)))
            return
        records = self.later if len(self.subscriptions) > 1 else self.records
        sent = next((n for n, bar in enumerate(records) if bar.ts_event >= start), len(records))
        while not self._closed:
            with self._news:
                while self._until <= sent and not self._dropping and not self._closed:
                    self._news.wait()
                until = max(self._until, sent)
                dropping, self._dropping = self._dropping, False
            client.sendall(b"".join(map(bytes, records[sent:until])))
            sent = until
            if dropping:
                client.sendall(bytes(records[sent])[:20])
                return


def _fields(line: bytes) -> dict[str, str]:
    return dict(field.partition("=")[::2] for field in line.decode().strip().split("|"))


@contextmanager
def served(
    records: list[dbn.OHLCVMsg], contracts: dict[int, str], refusal: str = "", symbol: str = "NQ.v.0"
) -> Iterator[tuple[Gateway, str]]:
    gateway = Gateway(records, contracts, refusal)
    try:
        yield gateway, f"databento://GLBX.MDP3/{symbol}?gateway=127.0.0.1:{gateway.port}"
    finally:
        gateway.close()


def clock(text: str) -> Callable[[], datetime]:
    return lambda: pd.Timestamp(text).to_pydatetime()


def as_records(bars: pd.DataFrame, number: int = 7) -> list[dbn.OHLCVMsg]:
    return [
        dbn.OHLCVMsg(33, 1, number, ts.value, *(round(price * 1e9) for price in prices), int(volume))
        for ts, *prices, volume in bars[COLUMNS[:-1]].itertuples(index=False, name=None)
    ]


def wait_until(told: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not told():
        assert time.monotonic() < end, "nothing came for 20 s"
        time.sleep(0.01)

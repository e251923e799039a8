"""Brings a spool's lines to the store: in order, at least once, each call repeatable, in a thread of its own."""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from nqcast.tracking.flatten import redact
from nqcast.tracking.spool import SentState, Spool
from nqcast.tracking.store import RefusedError

log = logging.getLogger(__name__)

_BATCH_VALUES = 900  # metrics in one request; MLflow takes 1000
_LONGEST_PAUSE = 30.0  # seconds between two tries during an outage


class Store(Protocol):
    """What a sender needs of MlflowStore."""

    def ensure_run(self, start: dict[str, Any], key: str) -> str: ...

    def ensure_child(self, parent: str, start: dict[str, Any], key: str) -> str: ...

    def send(self, run_id: str, lines: list[dict[str, Any]], files: Any) -> None: ...


class Delivery:
    """Sends what a spool holds and remembers how far it got; `sent_all` once its end line is acknowledged."""

    def __init__(self, spool: Spool, shown_uri: str) -> None:
        self._spool = spool
        state = spool.state()
        # Another store knows nothing of what the first was sent.
        self._state = state if state.uri in (None, shown_uri) else SentState()
        self._state.uri = shown_uri
        self.sent_all = False
        self.last_answer = -float("inf")  # time.monotonic() of the store's latest acknowledgement

    def send_news(self, store: Store) -> None:
        """Send every line after the last acknowledged one; raises what the store raises in an outage."""
        group: list[dict[str, Any]] = []
        end = self._state.offset
        for line, offset in self._spool.read(self._state.offset):
            if group and (_address(line) != _address(group[0]) or _size(group) >= _BATCH_VALUES):
                self._send_group(store, group, end)
                group = []
            group.append(line)
            end = offset
        if group:
            self._send_group(store, group, end)

    def unsent_lines(self) -> int:
        return sum(1 for _ in self._spool.read(self._state.offset))

    def _send_group(self, store: Store, group: list[dict[str, Any]], end: int) -> None:
        kind, child = _address(group[0])
        if kind == "start" and child is None:
            self._state.run_id = store.ensure_run(group[0], self._spool.folder.name)
        elif self._state.run_id is None:
            raise ValueError(f"{self._spool.news}: expected a start line first, found {group[0]['kind']}")
        elif child is None:
            if kind == "end":  # what a nested run's own end did not reach
                for run_id in self._state.children.values():
                    self._send_refusable(store, run_id, group)
            self._send_refusable(store, self._state.run_id, group)
        else:
            self._send_child(store, self._state.run_id, kind, child, group)
        self.last_answer = time.monotonic()
        self._state.offset = end
        self._spool.save_state(self._state)
        self.sent_all = kind == "end" and child is None

    def _send_child(self, store: Store, parent: str, kind: str, child: str, group: list[dict[str, Any]]) -> None:
        if kind == "start":
            self._state.children[child] = store.ensure_child(parent, group[0], f"{self._spool.folder.name}/{child}")
        elif child not in self._state.children:
            log.warning("tracking: a %s line of the nested run %s, which is not open, is left out", kind, child)
        else:
            self._send_refusable(store, self._state.children[child], group)
            if kind == "end":
                del self._state.children[child]

    def _send_refusable(self, store: Store, run_id: str, group: list[dict[str, Any]]) -> None:
        """Leave out the lines that the store refuses for good, by name, and no others."""
        try:
            store.send(run_id, group, self._spool.folder / "files")
        except RefusedError as error:
            if len(group) == 1:
                log.warning("tracking: the store refuses a %s line, left out: %s", group[0]["kind"], redact(str(error)))
                return
            for line in group:
                self._send_refusable(store, run_id, [line])


class Sender(threading.Thread):
    """A daemon thread that sends a live run's news; an outage slows only itself."""

    def __init__(self, spool: Spool, shown_uri: str, connect: Callable[[], Store], poll_interval: float) -> None:
        super().__init__(name="nqcast-tracking-sender", daemon=True)
        self._spool = spool
        self._connect = connect
        self._poll_interval = poll_interval
        self._store: Store | None = None
        self._wake = threading.Event()
        self.delivery = Delivery(spool, shown_uri)
        self.finished = threading.Event()
        self.last_error: str | None = None

    def run(self) -> None:
        failures = 0
        while not self.delivery.sent_all:
            try:
                self._store = self._store or self._connect()
                self.delivery.send_news(self._store)
                failures, self.last_error = 0, None
            except Exception as error:  # whatever MLflow, its database or the network raise: the run goes on
                failures += 1
                self._note(error, first=failures == 1)
            if not self.delivery.sent_all:
                self._wake.wait(min(_LONGEST_PAUSE, self._poll_interval * 2**failures))
                self._wake.clear()
        self._spool.remove()
        self.finished.set()

    def hurry(self) -> None:
        """Look for news now."""
        self._wake.set()

    def _note(self, error: Exception, first: bool) -> None:
        self.last_error = redact(f"{type(error).__name__}: {error}").splitlines()[0][:300]
        level = logging.WARNING if first else logging.DEBUG
        log.log(level, "tracking: the store does not answer, the run goes on and its news wait: %s", self.last_error)


def _address(line: dict[str, Any]) -> tuple[str, str | None]:
    """Kind of a line and the nested run that it is of; lines of one address travel together."""
    return line["kind"], line.get("child")


def _size(group: list[dict[str, Any]]) -> int:
    return sum(len(line.get("values", ())) for line in group)

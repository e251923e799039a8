"""Sends a spool's lines to the store: in order, at least once, each call repeatable; a live run's and those that wait.

`python -m nqcast.tracking.replay`, or `make replay-metrics`, sends what an outage or a killed run left unsent.
"""

import argparse
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path

from nqcast.redaction import REDACTED, redact
from nqcast.storage.place import data_place, working
from nqcast.tracking.spool import Line, SentState, Spool, waiting_spools
from nqcast.tracking.store import DATABASE, Destination, MlflowStore, RefusedError, destination
from nqcast.tracking.tail import MetricsTail

log = logging.getLogger("nqcast.tracking.replay")

_BATCH_VALUES = 900  # metrics in one request; MLflow takes 1000


class Delivery:
    """Sends what a spool holds and remembers how far it got; `sent_all` once its end line is acknowledged."""

    def __init__(self, spool: Spool, shown_uri: str, acknowledged: Callable[[], None] = lambda: None) -> None:
        """`acknowledged` is called after every answer of the store."""
        self._spool, self._acknowledged = spool, acknowledged
        state = spool.state()
        # Another store knows nothing of what the first was sent.
        self._state = state if state.uri in (None, shown_uri) else SentState()
        self._state.uri = shown_uri
        self.sent_all = False

    def send_news(self, store: MlflowStore) -> None:
        """Send every line after the last acknowledged one; raises what the store raises in an outage."""
        group: list[Line] = []
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
        return sum(line["kind"] != "follow" for line, _ in self._spool.read(self._state.offset))

    def _send_group(self, store: MlflowStore, group: list[Line], end: int) -> None:
        (kind, child), runs = _address(group[0]), self._state.runs
        if "" not in runs and (child or kind != "start"):
            raise ValueError(f"{self._spool.news}: expected a start line first, found {kind}")
        if kind == "start":
            key = f"{self._spool.folder.name}/{child}".removesuffix("/")
            runs[child] = store.ensure_run(group[0], key, runs[""] if child else None)
        elif child not in runs:
            log.warning("tracking: a %s line of the nested run %s, which is not open, is left out", kind, child)
        elif kind == "end":  # the outermost run's end is that of every one that is open
            for one in [child] if child else list(reversed(runs)):
                self._send_refusable(store, runs[one], group)
            if child:
                del runs[child]
        elif kind != "follow":
            self._send_refusable(store, runs[child], group)
        self._state.offset = end
        self._spool.save_state(self._state)
        self.sent_all = self.sent_all or (kind == "end" and not child)
        self._acknowledged()

    def _send_refusable(self, store: MlflowStore, run_id: str, group: list[Line]) -> None:
        """Leave out the lines that the store refuses for good, by name, and no others."""
        try:
            store.send(run_id, group, self._spool.folder / "files")
        except RefusedError as error:
            if len(group) == 1:
                log.warning("tracking: the store refuses a %s line, left out: %s", group[0]["kind"], redact(str(error)))
                return
            for line in group:
                self._send_refusable(store, run_id, [line])


def end_dead_runs(folder: Path) -> None:
    """Give every spool below `folder` whose process died without an end what its metrics files still hold, and an end.

    A later run of the same content writes into the same metrics file: call this before it begins.
    """
    _with_each(folder, _end, "not ended")


def send_waiting(
    folder: Path, uri: str | None = None, request_timeout: float = 10.0, only: Destination | None = None,
    acknowledged: Callable[[], None] = lambda: None,
) -> bool:  # fmt: skip
    """Send every waiting run below `folder`/spool; a run without an end is closed as KILLED. Running ones are left.

    Args:
        folder: the tracking folder, data/09_tracking.
        uri: the store; None takes MLFLOW_TRACKING_URI, else the store that each run was meant for.
        request_timeout: longest wait for one answer, in seconds.
        only: send only what was meant for this store, and there.
        acknowledged: is called after every answer.

    Returns:
        Whether nothing waits any more.
    """

    def send(spool: Spool) -> None:
        _end(spool)
        start = next((line for line, _ in spool.read(0)), None)
        if start is None:
            spool.remove()
        elif only is None or start.get("uri") == only.noted:
            place = only or _destination(spool, start, uri)
            delivery = Delivery(spool, place.shown, acknowledged)
            waiting = delivery.unsent_lines()
            delivery.send_news(MlflowStore(place, request_timeout))
            spool.remove()
            log.info("%s: %d lines sent to %s", spool.folder.name, waiting, place.shown)

    return _with_each(folder, send, "not sent")


def _with_each(folder: Path, step: Callable[[Spool], None], failed: str) -> bool:
    """Do a step with every spool that no living process holds; false where it failed for one, which keeps no other."""
    everything = True
    for spool in waiting_spools(folder / "spool"):
        try:
            if spool.try_lock():
                step(spool)
        except Exception as error:
            log.error("%s: %s: %s", spool.folder.name, failed, redact(f"{type(error).__name__}: {error}"))
            everything = False
        finally:
            spool.unlock()
    return everything


def _end(spool: Spool) -> None:
    """Let a run that ended with its process end in its spool too."""
    kinds = [line["kind"] for line, _ in spool.read(0) if "child" not in line]
    if not kinds or "end" in kinds:
        return
    died = int(1000 * spool.news.stat().st_mtime)
    tail = MetricsTail(spool)
    tail.take_up()
    try:
        tail.look()
    except OSError as error:
        log.warning("%s: its metrics files cannot be read: %s", spool.folder.name, error)
    spool.append("end", status="KILLED", time=died)


def _destination(spool: Spool, start: Line, uri: str | None) -> Destination:
    chosen, noted = uri or os.environ.get("MLFLOW_TRACKING_URI"), start.get("uri")
    if not chosen and (noted is None or REDACTED in noted):
        raise ValueError(
            "expected the tracking URI, found none: it held credentials, which are not written down; "
            "set MLFLOW_TRACKING_URI and run this again"
        )
    return destination(spool.home, chosen or noted)


def _address(line: Line) -> tuple[str, str]:
    """Kind of a line and the nested run that it is of; lines of one address travel together."""
    return line["kind"], line.get("child", "")


def _size(group: list[Line]) -> int:
    return sum(len(line.get("values", ())) for line in group)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when everything has been sent."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.tracking.replay", description=__doc__)
    parser.add_argument("--folder", type=Path, help="one tracking folder (default: those of every environment)")
    parser.add_argument("--uri", help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, else each run's own)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    data = working(data_place())
    folders = [options.folder] if options.folder else [data / "09_tracking", *sorted(data.glob("*/09_tracking"))]
    for folder in folders:
        if (folder / DATABASE).exists():  # a copied one learns where it is
            MlflowStore(destination(folder), 10.0)
    waiting = [folder for folder in folders if waiting_spools(folder / "spool")]
    if not waiting:
        log.info("nothing waits in %s", " or ".join(str(folder / "spool") for folder in folders))
    left = [folder for folder in waiting if not send_waiting(folder, options.uri)]
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())

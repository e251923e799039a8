"""Sends what an outage or a killed run left unsent: `python -m nqcast.tracking.replay`, or `make replay-metrics`."""

import argparse
import logging
import os
import sys
from pathlib import Path

from nqcast.tracking.flatten import redact
from nqcast.tracking.sender import Delivery
from nqcast.tracking.spool import Spool, waiting_spools
from nqcast.tracking.store import Destination, MlflowStore

log = logging.getLogger("nqcast.tracking.replay")


def replay(folder: Path, uri: str | None = None, request_timeout: float = 10.0) -> bool:
    """Send every waiting run below `folder`/spool; a run without an end is closed as KILLED. Running ones are left.

    Args:
        folder: the tracking folder, data/09_tracking.
        uri: the store; None takes MLFLOW_TRACKING_URI, else the store that each run was meant for.
        request_timeout: longest wait for one answer, in seconds.

    Returns:
        Whether nothing waits any more.
    """
    everything = True
    for spool in waiting_spools(folder / "spool"):
        if not spool.try_lock():
            log.info("%s: its run is still going on, left to it", spool.folder.name)
            continue
        try:
            _replay_one(spool, uri, request_timeout)
        except Exception as error:  # one run's trouble must not keep the others from being sent
            log.error("%s: not sent: %s", spool.folder.name, redact(f"{type(error).__name__}: {error}"))
            everything = False
        finally:
            spool.unlock()
    return everything


def _replay_one(spool: Spool, uri: str | None, request_timeout: float) -> None:
    lines = [line for line, _ in spool.read(0)]
    if not lines:
        spool.remove()
        return
    if lines[-1]["kind"] != "end" or "child" in lines[-1]:
        spool.append("end", status="KILLED", time=int(1000 * spool.news.stat().st_mtime))
    place = _destination(lines[0], uri)
    delivery = Delivery(spool, place.shown)
    waiting = delivery.unsent_lines()
    delivery.send_news(MlflowStore(place, request_timeout))
    spool.remove()
    log.info("%s: %d lines sent to %s", spool.folder.name, waiting, place.shown)


def _destination(start: dict, uri: str | None) -> Destination:
    chosen = uri or os.environ.get("MLFLOW_TRACKING_URI")
    if chosen:
        return Destination(chosen)
    if start.get("uri") is None:
        raise ValueError(
            "expected the tracking URI, found none: it held credentials, which are not written down; "
            "set MLFLOW_TRACKING_URI and run this again"
        )
    return Destination(start["uri"], Path(start["artifacts"]) if start.get("artifacts") else None)


def main(arguments: list[str] | None = None) -> int:
    """The command; 0 when everything has been sent."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.tracking.replay", description=__doc__)
    default = Path(os.environ.get("NQCAST_DATA", "data")) / "09_tracking"
    parser.add_argument("--folder", type=Path, default=default, help="the tracking folder (default: %(default)s)")
    parser.add_argument("--uri", help="MLflow tracking URI (default: MLFLOW_TRACKING_URI, else each run's own)")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if not waiting_spools(options.folder / "spool"):
        log.info("nothing waits in %s", options.folder / "spool")
        return 0
    return 0 if replay(options.folder, options.uri) else 1


if __name__ == "__main__":
    sys.exit(main())

"""`nqcast watch SOURCE`: forecasts as bars come in, until Ctrl-C."""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from pathlib import Path

from nqcast.live.databento_feed import SCHEME, DatabentoFeed
from nqcast.live.feed import Feed
from nqcast.market.look import ingest_config
from nqcast.storage.errors import require_writable
from nqcast.storage.place import Place, data_place, local_place, place, working

log = logging.getLogger(__name__)

_ROOM = 20_000_000
"""Bytes that must be free: forecasts and outcomes of more than a month of five-minute bars."""


def main(arguments: list[str]) -> int:
    """Watch until interrupted; returns the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        chosen = _options(arguments)
        with contextlib.closing(_feed(chosen)) as feed:
            return _watch(chosen, feed)
    except (ValueError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 0


def _options(arguments: list[str]) -> argparse.Namespace:
    data = data_place()
    parser = argparse.ArgumentParser(prog="nqcast watch", description=__doc__)
    parser.add_argument("source", help="a file of bars that grows, a folder into which files come, or databento://…")
    parser.add_argument("--checkpoint", type=place, help="default: the one of --env nq, else of the embedded market")
    parser.add_argument("--params", default="", help="as of kedro run: ingest.stamps=end,ingest.naive_timezone=UTC,…")
    parser.add_argument("--out", default=working(data) / "watch", help="folder of forecasts.jsonl and outcomes.jsonl")
    parser.add_argument("--bars", type=Path, help="databento://: folder of the bars before and those that come")
    parser.add_argument("--port", type=int, default=8050, help="of the page on 127.0.0.1; -1 and --once serve none")
    parser.add_argument("--every", type=float, default=0.2, help="seconds between looks at the source")
    parser.add_argument("--once", action="store_true", help="take what is there and end")
    chosen = parser.parse_args(arguments)
    chosen.out, chosen.checkpoint = local_place(chosen.out), chosen.checkpoint or _newest_checkpoint(data)
    return chosen


def _newest_checkpoint(data: Place) -> Place:
    folders = [data / "nq" / "06_models" / "checkpoint", data / "06_models" / "checkpoint"]
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def _feed(chosen: argparse.Namespace) -> Feed:
    if not chosen.source.startswith(SCHEME):
        return Feed(Path(chosen.source), waits=not chosen.once)
    return DatabentoFeed(chosen.source, chosen.bars or chosen.out / "bars")


def _watch(chosen: argparse.Namespace, feed: Feed) -> int:
    import torch

    import nqcast
    from nqcast.live.page import serve
    from nqcast.live.watcher import Watcher

    require_writable(chosen.out, _ROOM)
    torch.set_num_threads(1)  # one window: a second thread would only be waited for
    ingest = ingest_config(chosen.params, doubtful="stop")
    watcher = Watcher(nqcast.load(chosen.checkpoint, ingest=ingest), feed, chosen.out)
    server = None if chosen.port < 0 or chosen.once else serve(watcher, chosen.port)
    if server is not None:
        log.info("http://127.0.0.1:%d", server.server_address[1])
    try:
        while True:
            if made := watcher.step():
                newest = max(watcher.forecasts)
                seconds = watcher.forecasts[newest]["seconds"]
                log.info("forecasts made: %d, the newest issued %s, in %s s", made, newest, seconds)
            elif chosen.once and not watcher.refused:
                log.info("no forecast: no bar is there that had none yet")
            if chosen.once:
                return 0
            time.sleep(chosen.every)
    finally:
        if server is not None:
            server.shutdown()
            server.server_close()

"""The process of one rank: what asks it to stop, and how it leaves so that its launcher understands."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nqcast import stopping
from nqcast.stopping import RunEndedError, RunStopped, TrainingInterruptedError
from nqcast.training.distributed.watchdog import note_final_error, stop_flag

log = logging.getLogger(__name__)

_OTHER_RANK_GONE = ("gloo", "nccl", "connection", "store")  # in what torch says when a rank does not answer


def run_rank(folder: Path, body: Callable[[], None]) -> int:
    """Do the rank's work; 0 where the run has ended or was asked to stop, 1 where it failed.

    SIGTERM, SIGINT and the flag in `folder` ask for a checkpoint and a stop. An error that a restart cannot cure is
    noted in `folder`: restarted ranks then leave at once. Where another rank is gone, this one gives up.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.ask(number) and None)
    threading.Thread(target=_attend, args=(stop_flag(folder), os.getppid()), daemon=True).start()
    try:
        body()
    except (RunStopped, TrainingInterruptedError):
        return 0
    except (RunEndedError, ValueError, OSError) as error:
        note_final_error(folder, str(error))
        log.error("%s", error)
        return 1
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in _OTHER_RANK_GONE):
            raise
        log.error("gave up, another rank is gone: %s", str(error).splitlines()[0])
        return 1
    return 0


def _attend(stop: Path, launcher: int) -> None:
    """Ask for a stop once the flag stands; leave when the launcher is gone, who alone starts dead ranks anew."""
    while True:
        time.sleep(0.25)
        if os.getppid() != launcher:
            os._exit(1)
        if stop.exists() and stopping.asked() is None:
            stopping.ask(signal.SIGTERM)

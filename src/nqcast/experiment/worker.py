"""What one rank does: read the run's inputs, join the others, train, and leave so that its launcher understands."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from pathlib import Path

from nqcast import stopping
from nqcast.experiment.run_files import read_run, with_train
from nqcast.stopping import RunEndedError, RunStopped
from nqcast.training.distributed import joined_ranks, rank_device
from nqcast.training.precision import deterministic_kernels
from nqcast.training.run_card import TrainingInterruptedError
from nqcast.training.watchdog import note_final_error, stop_flag

logger = logging.getLogger(__name__)


def work(folder: Path, meeting: str | None) -> int:
    """Train as one rank; 0 where the run has ended or was asked to stop, 1 where it failed.

    An error that a restart cannot cure is noted in `folder`; restarted ranks then leave at once.
    """
    folder = folder.absolute()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, frame: stopping.ask(number) and None)
    threading.Thread(target=_attend, args=(stop_flag(folder), os.getppid()), daemon=True).start()
    try:
        run = read_run(folder)
        run = with_train(run, device=str(rank_device(run.config)), resume="auto")
        with deterministic_kernels(run.config.deterministic), joined_ranks(run.config, folder, meeting) as team:
            run.train_here(folder.parent, team)
    except (RunStopped, TrainingInterruptedError):
        return 0
    except (RunEndedError, ValueError, OSError) as error:
        note_final_error(folder, str(error))
        logger.error("%s", error)
        return 1
    except RuntimeError as error:
        if not any(word in str(error).lower() for word in ("gloo", "nccl", "connection", "store")):
            raise
        logger.error("gave up, another rank is gone: %s", str(error).splitlines()[0])
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

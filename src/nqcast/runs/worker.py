"""One rank of a run: `torchrun … -m nqcast.runs.worker FOLDER`, on every host that shares the disk of FOLDER.

FOLDER is `ranks` in a run directory, written by the train node. The train node starts the same worker itself for
`--params train.devices=N`. What asks a rank to stop, and how it leaves so that its launcher understands, is here too.
"""

import argparse
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from nqcast import stopping
from nqcast.stopping import RunEndedError, RunStopped, TrainingInterruptedError
from nqcast.training.distributed.watchdog import note_final_error, stop_flag, why_ended

log = logging.getLogger(__name__)

_OTHER_RANK_GONE = ("gloo", "nccl", "connection", "store")  # in what torch says when a rank does not answer


def main(arguments: list[str] | None = None) -> int:
    """Work as one rank until the run has ended; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.runs.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder `ranks` of a run directory")
    parser.add_argument("--meeting", help="file in which the ranks of one host meet; the launcher names it")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING,
        format=f"rank {os.environ.get('RANK', '?')}: %(message)s",
    )
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and why_ended(options.folder):
        return 1  # nothing that a restart could cure; said before torch is imported, which takes seconds
    return work(options.folder.absolute(), options.meeting)


def work(folder: Path, meeting: str | None) -> int:
    """Train as one rank of the run whose inputs lie in `folder`; returns the exit status."""
    from nqcast.runs.run import read_run
    from nqcast.runs.train import train_here
    from nqcast.training.device import deterministic_kernels
    from nqcast.training.distributed.ranks import joined_ranks, rank_device

    def train() -> None:
        run = read_run(folder)
        run = run.with_train(device=str(rank_device(run.config)))
        with deterministic_kernels(run.config.deterministic), joined_ranks(run.config, folder, meeting) as ranks:
            train_here(run, folder.parent, ranks)

    return run_rank(folder, train)


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


if __name__ == "__main__":
    sys.exit(main())

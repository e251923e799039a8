"""One rank of a run: `torchrun … -m nqcast.runs.worker FOLDER`, on every host that shares the disk of FOLDER.

FOLDER is `ranks` in a run directory, written by the train node. The train node starts the same worker itself for
`--params train.devices=N`.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from nqcast.training.distributed.watchdog import why_ended


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
    return work(options.folder, options.meeting)


def work(folder: Path, meeting: str | None) -> int:
    """Train as one rank of the run whose inputs lie in `folder`; returns the exit status."""
    from nqcast.runs.inputs import read_run
    from nqcast.runs.train import train_here
    from nqcast.training.device import deterministic_kernels
    from nqcast.training.distributed.process import run_rank
    from nqcast.training.distributed.ranks import joined_ranks, rank_device

    folder = folder.absolute()

    def train() -> None:
        run = read_run(folder)
        run = run.with_train(device=str(rank_device(run.config)))
        with deterministic_kernels(run.config.deterministic), joined_ranks(run.config, folder, meeting) as ranks:
            train_here(run, folder.parent, ranks)

    return run_rank(folder, train)


if __name__ == "__main__":
    sys.exit(main())

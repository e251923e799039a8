"""One rank of a run: `torchrun … -m nqcast.training.worker FOLDER`, on every host that shares the disk of FOLDER.

FOLDER is `ranks` in a run directory, written by the train node. The train node starts the same worker itself for
`--params train.devices=N`. This module is a door: what it opens, a training run with its data, stands in
`nqcast.experiment.worker`.
"""

import argparse
import logging
import os
import sys
from pathlib import Path

from nqcast.training.watchdog import why_ended


def main(arguments: list[str] | None = None) -> int:
    """Work as one rank until the run has ended; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m nqcast.training.worker", description=__doc__)
    parser.add_argument("folder", type=Path, help="folder `ranks` of a run directory")
    parser.add_argument("--meeting", help="file in which the ranks of one host meet; the launcher names it")
    options = parser.parse_args(arguments)
    logging.basicConfig(
        level=logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING,
        format=f"rank {os.environ.get('RANK', '?')}: %(message)s",
    )
    if int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) and why_ended(options.folder):
        return 1  # nothing that a restart could cure; said before torch is imported, which takes seconds
    from nqcast.experiment.worker import work

    return work(options.folder, options.meeting)


if __name__ == "__main__":
    sys.exit(main())

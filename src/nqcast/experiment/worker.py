"""What one rank does: read the run's inputs, join the others and train."""

from __future__ import annotations

from pathlib import Path

from nqcast.experiment.run_files import read_run, with_train
from nqcast.training.distributed import joined_ranks, rank_device
from nqcast.training.precision import deterministic_kernels
from nqcast.training.rank_process import run_rank


def work(folder: Path, meeting: str | None) -> int:
    """Train as one rank of the run whose inputs lie in `folder`; returns the exit status."""
    folder = folder.absolute()

    def train() -> None:
        run = read_run(folder)
        run = with_train(run, device=str(rank_device(run.config)))
        with deterministic_kernels(run.config.deterministic), joined_ranks(run.config, folder, meeting) as team:
            run.train_here(folder.parent, team)

    return run_rank(folder, train)

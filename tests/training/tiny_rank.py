"""One rank of tiny runs, as the launcher starts it: `python -m tests.training.tiny_rank FOLDER --meeting FILE`.

FOLDER/cases.json lists the runs: a name, fields of TrainConfig, how gradients are added, and what goes wrong where.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tests.training.conftest import TinyLoader, TinyModel

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.runs.worker import run_rank
from nqcast.stopping import finishing
from nqcast.training import TrainConfig, Trainer
from nqcast.training.distributed.ranks import Ranks, joined_ranks
from nqcast.training.distributed.trainer import SharedTrainer
from nqcast.training.distributed.watchdog import stop_flag, why_ended
from nqcast.training.run_card import recorded

FIRST_START = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"


def hang_here() -> None:
    time.sleep(600)


def trouble(kind: str | None, folder: Path, batch: dict) -> dict:
    """What goes wrong at the chosen batch of rank 1's first start."""
    if kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "hang":
        hang_here()
    if kind == "value":
        raise ValueError("expected a good batch, found a bad one; mend it")
    if kind == "stop":
        stop_flag(folder).touch()
        time.sleep(1.0)  # until the attendant has looked
    return batch


class FusedModel(torch.nn.Module):
    """The real model, of the least size that fused kernels take, on the tiny task."""

    def __init__(self, dropout: float) -> None:
        super().__init__()
        sizes = {"n_features": 6, "context": 24, "patch_length": 6, "n_horizons": 2, "recent_bars": (1, 3)}
        self.inner = fuse(MIGT_TVDT(ModelConfig(**sizes, dropout=dropout, kernels="fused")))
        torch.nn.init.ones_(self.inner.token_gain)  # or the tokens learn nothing at first

    def forward(self, features: torch.Tensor, *inputs: torch.Tensor | None) -> dict[str, Any]:
        mask, clock, scale = (*inputs, None, None, None)[:3]
        return self.inner(features.repeat(1, 8, 1), mask, clock, scale)


def make_trainer(case: dict, directory: Path, ranks: Ranks | None = None, poison: object = None) -> Trainer:
    """The trainer of a case; equal weights and data in every process."""
    torch.manual_seed(11)
    config = TrainConfig(**case["train"])
    loaders = TinyLoader(140, 16, config.seed, poison), TinyLoader(70, 16, None)
    device = getattr(ranks, "device", "cpu")
    dropout = case.get("dropout", 0.2)
    model = FusedModel(dropout) if case.get("fused") else TinyModel(dropout)
    parts = model, config, *loaders, directory, device
    return Trainer(*parts) if ranks is None else SharedTrainer(ranks, *parts)


def main() -> int:
    torch.set_num_threads(1)
    folder, meeting = Path(sys.argv[1]), sys.argv[3]
    if not FIRST_START and why_ended(folder):
        return 1
    with (folder / "starts.txt").open("a") as starts:
        starts.write(f"{os.environ['RANK']}\n")
    cases = json.loads((folder / "cases.json").read_text())

    def train() -> None:
        with joined_ranks(TrainConfig(**cases[0]["train"]), folder, meeting) as met:
            for case in cases:
                ranks = Ranks(met.device, met.watchdog, exact=not case.get("overlapped"))
                at, kind = case.get("trouble", (-1, None))
                seen = []

                def poison(number: int, batch: dict, at=at, kind=kind, seen=seen) -> dict:
                    seen.append(number)
                    wrong = met.rank == 1 and FIRST_START and len(seen) == at
                    return trouble(kind, folder, batch) if wrong else batch

                trainer = make_trainer(case, folder.parent / case["name"], ranks, poison)
                with finishing(trainer.request_stop):
                    if trainer.writes:
                        with recorded(trainer.output_dir, {"run": "tiny"}):
                            trainer.train()
                    else:
                        trainer.train()

    return run_rank(folder, train)


if __name__ == "__main__":
    sys.exit(main())

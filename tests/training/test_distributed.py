"""Two real processes over loopback: they end as one process does, and survive or end as promised."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.faults.killing import end_of
from tests.model.test_fused import needs_compiler
from tests.training.tiny_rank import make_trainer as tiny_trainer

from nqcast.stopping import RunEndedError
from nqcast.training import TrainConfig
from nqcast.training.checkpoint import read_checkpoint
from nqcast.training.distributed.launch import launch, processes_here
from nqcast.training.resume import as_tensors

from .conftest import HORIZONS

TRAIN: dict[str, Any] = {
    "epochs": 3, "batch_size": 16, "accumulation": 2, "learning_rate": 5e-3, "warmup_steps": 6, "t_0": 2,
    "horizons": HORIZONS, "device": "cpu", "seed": 3, "log_every": 2, "devices": 2, "max_restarts": 2,
}  # fmt: skip


class Ranks:
    """Trains cases by two processes, each in root/<name>, and keeps what they say in root/ranks."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "ranks"
        self.folder.mkdir()

    def launch(self, *cases: dict[str, Any], **fields: Any) -> None:
        cases = tuple({**case, "train": TRAIN | fields | case.get("train", {})} for case in cases)
        (self.folder / "cases.json").write_text(json.dumps(cases))
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(Path(__file__).parents[2])
            patch.setenv("OMP_NUM_THREADS", "1")
            launch(self.folder, 2, TrainConfig(**TRAIN | fields), "tests.training.tiny_rank")

    def starts(self) -> int:
        """How often a process began to work, over all ranks."""
        return len((self.folder / "starts.txt").read_text().split())


@pytest.fixture
def ranks(tmp_path: Path) -> Ranks:
    return Ranks(tmp_path)


EXACT: list[dict[str, Any]] = [{"name": "two", "train": {}}, {"name": "four", "train": {"accumulation": 4}}]
NEAR: list[dict[str, Any]] = [
    {"name": "pieces", "dropout": 0.0, "train": {"accumulation": 1}},
    {"name": "ddp", "overlapped": True, "train": {"accumulation": 4}},
    {"name": "ddp_pieces", "overlapped": True, "dropout": 0.0, "train": {"accumulation": 1}},
]
FUSED: dict[str, Any] = {"name": "fused", "fused": True, "train": {}}
STOPPED: dict[str, Any] = {"name": "stopped", "trouble": (7, "stop")}
KILLED: dict[str, Any] = {"name": "killed", "trouble": (7, "kill"), "train": {"every_minutes": 1e-9}}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ranks:
    """Every case that comes to its end. A pair of processes takes seconds to start: one is stopped, the next trains
    all cases, goes on with the stopped one, and is killed and started again in the last.
    """
    ranks = Ranks(tmp_path_factory.mktemp("ranks"))
    ranks.launch(STOPPED)
    assert end_of(ranks.root / "stopped")["progress"]["batch"] > 0  # inside an epoch
    fused = [] if needs_compiler.mark.args[0] else [FUSED]
    ranks.launch(*EXACT, *NEAR, *fused, {"name": "stopped"}, KILLED)
    return ranks


def alone(directory: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The end of the same run by one process."""
    tiny_trainer({**case, "train": TRAIN | case.get("train", {})}, directory).train()
    return ends(directory)


def ends(directory: Path) -> dict[str, Any]:
    """What must be equal; the position in the process's own generator, which no step uses, is not asked."""
    end = end_of(directory)
    end["tensors"] = {name: digest for name, digest in end["tensors"].items() if not name.startswith("rng.")}
    return end


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return as_tensors(read_checkpoint(directory / "checkpoint_latest").tensors, "model")


@pytest.mark.slow
def test_two_processes_end_as_one_does(trained: Ranks, tmp_path: Path) -> None:
    """Nine micro-batches, so the last group is short; a fifth of the targets is undefined, unevenly.

    Whole micro-batches are shared bit by bit, weights, moments, metrics and all; pieces of them, and torch's own DDP,
    up to rounding.
    """
    for case in EXACT:
        assert ends(trained.root / case["name"]) == alone(tmp_path / case["name"], case), case["name"]
    for case in NEAR:
        if case["name"] == "ddp":  # its short last group comes in halves, whose dropout has masks of its own
            continue
        one, other = trained.root / case["name"], tmp_path / case["name"]
        tiny_trainer({**case, "train": TRAIN | case["train"]}, other).train()
        for name, tensor in weights(other).items():
            torch.testing.assert_close(weights(one)[name], tensor, rtol=1e-3, atol=1e-5)
    losses = [json.loads((trained.root / name / "metrics.jsonl").read_text().splitlines()[-1])["val_loss"]
              for name in ("ddp", "four")]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.slow
@needs_compiler
def test_two_processes_end_as_one_does_by_fused_kernels(trained: Ranks, tmp_path: Path) -> None:
    """Bit by bit: the real model, dropout and a short last group included."""
    assert ends(trained.root / "fused") == alone(tmp_path, FUSED)


@pytest.mark.slow
def test_a_killed_rank_starts_again_from_the_last_checkpoint_and_the_end_is_the_same(
    trained: Ranks, tmp_path: Path
) -> None:
    """SIGKILL of one process in the second epoch, between checkpoints."""
    assert ends(trained.root / "killed") == alone(tmp_path, {"train": {"every_minutes": 1e-9}})
    assert json.loads((trained.root / "killed" / "run.json").read_text())["status"] == "finished"
    assert trained.starts() == 6  # two that are stopped, two, and two in the place of the killed one and its fellow


@pytest.mark.slow
def test_a_stop_reaches_all_ranks_at_one_step_and_the_run_goes_on_to_the_same_end(
    trained: Ranks, tmp_path: Path
) -> None:
    assert ends(trained.root / "stopped") == alone(tmp_path, {})


@pytest.mark.slow
def test_a_hung_rank_ends_the_run_with_its_stack_and_is_not_started_again(ranks: Ranks) -> None:
    begun = time.monotonic()
    with pytest.raises(RunEndedError, match=r"silence for longer than train\.hang_minutes") as ended:
        ranks.launch({"name": "hung", "trouble": (7, "hang")}, hang_minutes=0.15)
    assert "hang_here" in str(ended.value) and "stack_rank_1.txt" in str(ended.value)
    assert "hang_here" in (ranks.folder / "stack_rank_1.txt").read_text()
    assert time.monotonic() - begun < 90
    assert ranks.starts() == 2


@pytest.mark.slow
def test_an_error_that_a_restart_cannot_cure_ends_the_run_with_its_message(ranks: Ranks) -> None:
    with pytest.raises(RunEndedError, match="expected a good batch, found a bad one; mend it"):
        ranks.launch({"name": "bad", "trouble": (3, "value")}, max_restarts=1)
    assert ranks.starts() == 2


def test_devices_are_counted_and_too_many_are_refused() -> None:
    config = TrainConfig(device="cpu", batch_size=2, accumulation=2)
    assert processes_here(config) == 1
    assert processes_here(config.model_copy(update={"devices": "auto"})) == 1
    assert processes_here(config.model_copy(update={"devices": 4})) == 4
    with pytest.raises(ValueError, match="5 ranks for 2 × 2 windows"):
        processes_here(config.model_copy(update={"devices": 5}))
    with pytest.raises(ValueError, match="rendezvous=host:port"):
        TrainConfig(hosts=2)

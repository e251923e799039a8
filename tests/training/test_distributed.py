"""Two real processes over loopback: they end as one process does, and survive or end as promised."""

import json
import time
from collections.abc import Callable
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
Launch = Callable[..., None]


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Launch:
    """Trains the cases by two processes in tmp_path/<name>."""
    monkeypatch.chdir(Path(__file__).parents[2])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(*cases: dict[str, Any], **fields: Any) -> None:
        folder = tmp_path / "ranks"
        folder.mkdir(exist_ok=True)
        cases = tuple({**case, "train": TRAIN | fields | case.get("train", {})} for case in cases)
        (folder / "cases.json").write_text(json.dumps(cases))
        launch(folder, 2, TrainConfig(**TRAIN | fields), "tests.training.tiny_rank")

    return run


def alone(directory: Path, case: dict[str, Any]) -> dict[str, Any]:
    """The end of the same run by one process."""
    tiny_trainer({**case, "train": TRAIN | case.get("train", {})}, directory).train()
    return ends(directory)


def ends(directory: Path) -> dict[str, Any]:
    """What must be equal; the position in the process's own generator, which no step uses, is not asked."""
    end = end_of(directory)
    end["tensors"] = {name: digest for name, digest in end["tensors"].items() if not name.startswith("rng.")}
    return end


def starts(tmp_path: Path) -> int:
    """How often a process began to work, over all ranks."""
    return len((tmp_path / "ranks" / "starts.txt").read_text().split())


def weights(directory: Path) -> dict[str, torch.Tensor]:
    return as_tensors(read_checkpoint(directory / "checkpoint_latest").tensors, "model")


@pytest.mark.slow
def test_two_processes_end_as_one_does(launched: Launch, tmp_path: Path) -> None:
    """Nine micro-batches, so the last group is short; a fifth of the targets is undefined, unevenly.

    Whole micro-batches are shared bit by bit, weights, moments, metrics and all; pieces of them, and torch's own DDP,
    up to rounding.
    """
    exact = [{"name": "two", "train": {}}, {"name": "four", "train": {"accumulation": 4}}]
    near = [
        {"name": "pieces", "dropout": 0.0, "train": {"accumulation": 1}},
        {"name": "ddp", "overlapped": True, "train": {"accumulation": 4}},
        {"name": "ddp_pieces", "overlapped": True, "dropout": 0.0, "train": {"accumulation": 1}},
    ]
    launched(*exact, *near)
    for case in exact:
        assert ends(tmp_path / case["name"]) == alone(tmp_path / "alone" / case["name"], case), case["name"]
    for case in near:
        if case["name"] == "ddp":  # its short last group comes in halves, whose dropout has masks of its own
            continue
        one, other = tmp_path / case["name"], tmp_path / "alone" / case["name"]
        tiny_trainer({**case, "train": TRAIN | case["train"]}, other).train()
        for name, tensor in weights(other).items():
            torch.testing.assert_close(weights(one)[name], tensor, rtol=1e-3, atol=1e-5)
    losses = [json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])["val_loss"]
              for name in ("ddp", "four")]  # fmt: skip
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


@pytest.mark.slow
@needs_compiler
def test_two_processes_end_as_one_does_by_fused_kernels(launched: Launch, tmp_path: Path) -> None:
    """Bit by bit: the real model, dropout and a short last group included."""
    case = {"name": "fused", "fused": True, "train": {}}
    launched(case)
    assert ends(tmp_path / "fused") == alone(tmp_path / "alone", case)


@pytest.mark.slow
def test_a_killed_rank_starts_again_from_the_last_checkpoint_and_the_end_is_the_same(
    launched: Launch, tmp_path: Path
) -> None:
    """SIGKILL of one process in the second epoch, between checkpoints."""
    launched({"name": "killed", "trouble": (7, "kill"), "train": {"every_minutes": 1e-9}})
    assert ends(tmp_path / "killed") == alone(tmp_path / "alone", {"train": {"every_minutes": 1e-9}})
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["status"] == "finished"
    assert starts(tmp_path) == 4


@pytest.mark.slow
def test_a_hung_rank_ends_the_run_with_its_stack_and_is_not_started_again(launched: Launch, tmp_path: Path) -> None:
    begun = time.monotonic()
    with pytest.raises(RunEndedError, match=r"silence for longer than train\.hang_minutes") as ended:
        launched({"name": "hung", "trouble": (7, "hang")}, hang_minutes=0.25)
    assert "hang_here" in str(ended.value) and "stack_rank_1.txt" in str(ended.value)
    assert "hang_here" in (tmp_path / "ranks" / "stack_rank_1.txt").read_text()
    assert time.monotonic() - begun < 90
    assert starts(tmp_path) == 2


@pytest.mark.slow
def test_an_error_that_a_restart_cannot_cure_ends_the_run_with_its_message(launched: Launch, tmp_path: Path) -> None:
    with pytest.raises(RunEndedError, match="expected a good batch, found a bad one; mend it"):
        launched({"name": "bad", "trouble": (3, "value")}, max_restarts=1)
    assert starts(tmp_path) == 2


@pytest.mark.slow
def test_a_stop_reaches_all_ranks_at_one_step_and_the_run_goes_on_to_the_same_end(
    launched: Launch, tmp_path: Path
) -> None:
    launched({"name": "stopped", "trouble": (7, "stop")})
    assert end_of(tmp_path / "stopped")["progress"]["batch"] > 0  # inside an epoch
    launched({"name": "stopped"})
    assert ends(tmp_path / "stopped") == alone(tmp_path / "alone", {})


def test_devices_are_counted_and_too_many_are_refused() -> None:
    config = TrainConfig(device="cpu", batch_size=2, accumulation=2)
    assert processes_here(config) == 1
    assert processes_here(config.model_copy(update={"devices": "auto"})) == 1
    assert processes_here(config.model_copy(update={"devices": 4})) == 4
    with pytest.raises(ValueError, match="5 ranks for 2 × 2 windows"):
        processes_here(config.model_copy(update={"devices": 5}))
    with pytest.raises(ValueError, match="rendezvous=host:port"):
        TrainConfig(hosts=2)

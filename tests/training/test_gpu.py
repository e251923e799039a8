"""What only a GPU can show. `pytest tests/training/test_gpu.py` on a machine with CUDA; `python benchmarks/gpu.py` has
the figures.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks.gpu import Case, Loop, market, overflow
from tests.training.test_distributed import TRAIN
from tests.training.tiny_rank import make_trainer as tiny_trainer

from nqcast.constants import HORIZONS, LEVELS
from nqcast.data.windows import WindowLoader, WindowTable
from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import TrainConfig, Trainer
from nqcast.training.checkpoint import read_checkpoint
from nqcast.training.distributed.launch import launch
from nqcast.training.validation import validation_sums

pytestmark = pytest.mark.skipif(
    not torch.cuda.is_available(),
    reason="needs a CUDA device: run `pytest tests/training/test_gpu.py` where there is one",
)
SMALL = {"size": "test", "patch_length": 12, "d_model": 64, "n_heads": 4, "d_ff": 256, "dropout": 0.0}


@pytest.fixture(scope="module")
def features() -> pd.DataFrame:
    return market(2_000)


def table_on(device: str, features: pd.DataFrame) -> WindowTable:
    return WindowTable(features, np.full((len(features), len(HORIZONS)), 1e-3), device)


def trainer_on(device: str, features: pd.DataFrame, folder: Path, **fields: object) -> Trainer:
    table = table_on(device, features)
    config = TrainConfig(epochs=1, batch_size=64, warmup_steps=4, t_0=1, device=device, log_every=1000, **fields)
    loaders = WindowLoader(table, np.arange(287, 1500), 64, seed=0), WindowLoader(table, np.arange(1788, 2000), 64)
    return Trainer(MIGT_TVDT(ModelConfig(**SMALL), seed=0), config, *loaders, folder)


def test_between_log_points_nothing_is_copied_to_the_device_and_nothing_waits_for_it(
    features: pd.DataFrame, tmp_path: Path
) -> None:
    """The profiler sees neither a copy from or to the host nor a synchronisation within ten steps."""
    trainer = trainer_on("cuda", features, tmp_path, precision="bf16")
    trainer.model.train()
    batches = iter(trainer.train_loader)

    def steps(n: int) -> None:
        for _ in range(n):
            trainer._count(trainer.stepper([next(batches)], trainer.progress.micro_batches), 1)

    steps(3)
    torch.cuda.synchronize()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    torch.cuda.set_sync_debug_mode("error")
    try:
        with torch.profiler.profile(activities=activities) as profile:
            steps(10)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    names = {event.key for event in profile.key_averages()}
    assert not [name for name in names if "Memcpy HtoD" in name or "Memcpy DtoH" in name]
    assert "aten::_local_scalar_dense" not in names


def test_metrics_accumulate_on_the_device(features: pd.DataFrame, tmp_path: Path) -> None:
    trainer = trainer_on("cuda", features, tmp_path)
    inputs = (trainer.model, trainer.val_loader, trainer.precision, LEVELS)
    validation_sums(*inputs)
    batches = list(trainer.val_loader)
    torch.cuda.set_sync_debug_mode("error")
    try:
        sums = validation_sums(trainer.model, batches, trainer.precision, LEVELS)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert sums is not None and sums.loss_HQ.is_cuda


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_a_gpu_learns_what_a_cpu_learns(features: pd.DataFrame, tmp_path: Path, precision: str) -> None:
    reference = trainer_on("cpu", features, tmp_path / "cpu").train()[-1]["val_loss"]
    reached = trainer_on("cuda", features, tmp_path / "cuda", precision=precision).train()[-1]["val_loss"]
    assert reached == pytest.approx(reference, rel=1e-3)


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_and_graphed_blocks_learn_what_eager_ones_learn(
    features: pd.DataFrame, tmp_path: Path, mode: str
) -> None:
    eager = trainer_on("cuda", features, tmp_path / "eager", precision="fp32").train()[-1]["val_loss"]
    fast = trainer_on("cuda", features, tmp_path / mode, precision="fp32", compile=mode).train()[-1]["val_loss"]
    assert fast == pytest.approx(eager, rel=1e-3)


def test_an_overflow_in_fp16_skips_the_step_and_holds_weights_and_schedule(features: pd.DataFrame) -> None:
    assert all(overflow(table_on("cuda", features), 8, True, 24).values())


def test_without_a_mask_a_fused_attention_kernel_runs(features: pd.DataFrame) -> None:
    loop = Loop(Case(24, "bf16"), table_on("cuda", features), 8, tiny=True)
    with torch.nn.attention.sdpa_kernel(
        [torch.nn.attention.SDPBackend.FLASH_ATTENTION, torch.nn.attention.SDPBackend.CUDNN_ATTENTION]
    ):  # the plain one is not allowed: a mask would end in an error
        assert bool(loop.step().applied)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_two_gpus_under_ddp_learn_what_one_process_learns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    case = {"name": "gpus", "dropout": 0.0, "train": {**TRAIN, "device": "cuda", "precision": "fp32"}}
    folder = tmp_path / "ranks"
    folder.mkdir()
    (folder / "cases.json").write_text(json.dumps([case]))
    launch(folder, 2, TrainConfig(**case["train"]), "tests.training.tiny_rank")
    tiny_trainer({**case, "train": TRAIN}, tmp_path / "alone").train()
    ends = [read_checkpoint(tmp_path / name / "checkpoint_latest").state for name in ("gpus", "alone")]
    losses = [end["progress"]["history"][-1]["val_loss"] for end in ends]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)

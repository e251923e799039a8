"""Device and precision by name."""

import os

import pytest
import torch

from nqcast.batches import to_device
from nqcast.training.device import deterministic_kernels, pick_device, pick_precision


def test_auto_takes_what_is_there() -> None:
    expected = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert pick_device("auto").type == expected


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a GPU that must be absent")
def test_an_absent_gpu_is_refused_with_the_cure() -> None:
    with pytest.raises(ValueError, match=r"train\.device to auto or cpu"):
        pick_device("cuda")


def test_an_unknown_device_is_refused() -> None:
    with pytest.raises(ValueError, match="abacus"):
        pick_device("abacus")


def test_the_cpu_trains_in_fp32_and_fp16_is_refused_there() -> None:
    cpu = torch.device("cpu")
    assert pick_precision("auto", cpu).name == "fp32"
    assert not pick_precision("auto", cpu).scaler().is_enabled()
    with pytest.raises(ValueError, match="CUDA"):
        pick_precision("fp16", cpu)


def test_autocast_is_passive_in_fp32_and_active_in_bf16() -> None:
    cpu, x = torch.device("cpu"), torch.ones(2, 2)
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        with pick_precision(name, cpu).autocast():
            assert (x @ x).dtype == dtype


def test_a_batch_already_in_place_is_not_copied() -> None:
    batch = {"features": torch.ones(2), "temporal_info": {"bar_in_day": torch.ones(2)}, "note": 3}
    moved = to_device(batch, torch.device("cpu"))
    assert moved["features"] is batch["features"]
    assert moved["temporal_info"]["bar_in_day"] is batch["temporal_info"]["bar_in_day"]
    assert moved["note"] == 3


@pytest.mark.parametrize("enabled", [True, False])
def test_deterministic_kernels_hold_for_a_block(enabled: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic_kernels(enabled):
        assert torch.are_deterministic_algorithms_enabled() is enabled
        assert os.environ.get("CUBLAS_WORKSPACE_CONFIG") == (":4096:8" if enabled else None)
    assert not torch.are_deterministic_algorithms_enabled()

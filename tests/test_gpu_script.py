"""The GPU script runs whole on a CPU at a tiny size, with nothing installed beyond what it says."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).parents[1]
WITHOUT = (
    "kedro kedro_datasets mlflow pandera pandas_market_calendars scipy matplotlib databento plotly rich tqdm click "
    "omegaconf pyarrow sklearn arch lightgbm optuna dask wandb tensorboard onnx yaml"
)
START = f"""
import runpy, sys
sys.modules.update(dict.fromkeys({WITHOUT.split()!r}))  # as if they were not installed
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name='__main__')
"""


def test_the_script_needs_what_it_says_and_measures_every_case(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-c", START, str(ROOT / "benchmarks" / "gpu.py"), "--device", "cpu", "--tiny"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert not [case for case in report["cases"] if "error" in case], report["cases"]
    assert [(case["precision"], case["checkpointing"]) for case in report["cases"]] == [
        ("fp32", False), ("bf16", False), ("bf16", True),
    ]  # fmt: skip
    assert all(case["windows_per_s"] > 0 and case["skipped"] == 0 for case in report["cases"])
    assert report["fp16_overflow"] == {
        "step_skipped": True, "weights_held": True, "schedule_held": True, "scale_halved": True,
        "next_step_applied": True,
    }  # fmt: skip
    alone = report["short_attention"]
    assert [*alone] == ["bmm", "math", "efficient", "cuDNN", "flash", "5 of 24 in 128, masked"]
    assert all(one["ms"] > 0 and one["largest_error"] < 0.02 for name, one in alone.items() if "error" not in one)
    assert {name for name, one in alone.items() if "error" in one} <= {"efficient", "cuDNN"}, (
        "kernels that a CPU has not"
    )
    assert report["whole_step"].pop("ms_launched") > 0 and report["whole_step"] == {"graph": "not asked on a CPU"}


def test_packed_sequences_see_themselves_alone() -> None:
    """Seven of them, so that the second block holds three places for nobody; gradients too, against two products."""
    gpu = runpy.run_path(str(ROOT / "benchmarks" / "gpu.py"))
    inputs = [x.detach().double().requires_grad_() for x in gpu["attention_inputs"](7, 2, 16, torch.device("cpu"))]
    found, expected = (gpu[name](*inputs) for name in ("packed", "by_products"))
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(x.square().sum(), inputs) for x in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)

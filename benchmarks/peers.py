"""Training of pytorch-forecasting's Temporal Fusion Transformer of like parameter count, beside the bare step of ours.

The peer may live in an environment of its own: NQCAST_PEERS_PYTHON names its Python (`pip install torch==2.13.0
'pytorch-forecasting>=1.4'` there). Where it is missing the table says so. neuralforecast is not measured: it needs ray.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import Row, budget, in_own_process, main

TFT = Path(__file__).with_name("peer_tft.py")
ASKED = {"context": 288, "variables": 24, "batch": 128}


def peer(python: str, parameters: int) -> dict[str, Any]:
    """Rates of the peer, or {"missing": reason}; run by the Python that has it."""
    question = json.dumps({**ASKED, "parameters": parameters, "seconds": 3 * budget()})
    done = subprocess.run([python, str(TFT), question], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_case() -> dict[str, float]:
    """Our laptop model: bare eager fp32 step, and its parameters."""
    import torch
    from benchmarks.material import BareStep, random_batch
    from benchmarks.measuring import seconds_per_call

    from nqcast.model import MIGT_TVDT, ModelConfig
    from nqcast.training.precision import pick_device

    pick_device("cpu")
    model = MIGT_TVDT(ModelConfig(), seed=0).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters(), fused=True), torch.autocast("cpu", enabled=False))
    data = random_batch(model.config, ASKED["batch"])
    rate = ASKED["batch"] / seconds_per_call(lambda: step(data), warm=3)
    return {"rate": rate, "parameters": sum(p.numel() for p in model.parameters())}


def measure() -> Iterator[Row]:
    """Ours, then the peer's step alone and with its own loader."""
    ours = in_own_process("benchmarks.peers", {})
    yield Row(f"ours, bare step, {ours['parameters']:,} parameters", ours["rate"], "windows/s", 1.0, "itself")
    found = peer(os.environ.get("NQCAST_PEERS_PYTHON", sys.executable), int(ours["parameters"]))
    if "missing" in found:
        yield Row("pytorch-forecasting TFT", 0.0, "windows/s", note=f"missing: {found['missing']}")
        return
    for key, text in (("step", "batches at hand"), ("loop", "its own loader")):
        name = f"TFT, {text}, {found['parameters']:,} parameters"
        yield Row(
            name, found[key], "windows/s", found[key] / ours["rate"], "of ours", note=f"version {found['version']}"
        )


if __name__ == "__main__":
    main(measure)

"""Training of the Temporal Fusion Transformers of pytorch-forecasting and neuralforecast, of like parameter count,
beside the bare step and the Trainer's loop of ours.

The peers may live in an environment of their own: NQCAST_PEERS_PYTHON names its Python (`pip install torch==2.13.0
pytorch-forecasting neuralforecast` there). Where one is missing the table says so.
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

PEERS = {"pytorch-forecasting": "its own loader", "neuralforecast": "its own fit"}
ASKED = {"context": 288, "variables": 24, "batch": 128}


def peer(python: str, library: str, parameters: int) -> dict[str, Any]:
    """Rates of the peer, or {"missing": reason}; run by the Python that has it."""
    question = json.dumps({**ASKED, "parameters": parameters, "seconds": 3 * budget()})
    script = Path(__file__).with_name(f"peer_{library.replace('-', '_')}.py")
    done = subprocess.run([python, str(script), question], capture_output=True, text=True, check=False)
    if done.returncode:
        return {"missing": (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]}
    return dict(json.loads(done.stdout.splitlines()[-1]))


def run_case() -> dict[str, float]:
    """Our laptop model: bare eager fp32 step, and its parameters."""
    import torch
    from benchmarks.material import BareStep, random_batch
    from benchmarks.measuring import seconds_per_call

    from nqcast.model import MIGT_TVDT, ModelConfig, fuse
    from nqcast.training.device import pick_device

    pick_device("cpu")
    model = fuse(MIGT_TVDT(ModelConfig(), seed=0)).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters(), fused=True), torch.autocast("cpu", enabled=False))
    data = random_batch(model.config, ASKED["batch"])
    rate = ASKED["batch"] / seconds_per_call(lambda: step(data), warm=3)
    return {"rate": rate, "parameters": sum(p.numel() for p in model.parameters())}


def measure() -> Iterator[Row]:
    """Ours, the bare step and the Trainer, then each peer's step alone and with what it trains by."""
    ours = in_own_process("benchmarks.peers", {})
    rate = ours["rate"]
    yield Row(f"ours, bare step, {ours['parameters']:,} parameters", rate, "windows/s", 1.0, "itself")
    loop = in_own_process("benchmarks.loop", {"kind": "ours", "kernels": "auto"})["loop"]
    yield Row("ours, Trainer, eager fp32", loop, "windows/s", loop / rate, "of our bare step")
    for library, by in PEERS.items():
        found = peer(os.environ.get("NQCAST_PEERS_PYTHON", sys.executable), library, int(ours["parameters"]))
        if "missing" in found:
            yield Row(f"{library} TFT", 0.0, "windows/s", note=f"missing: {found['missing']}")
            continue
        for key, text in (("step", "batches at hand"), ("loop", by)):
            name = f"{library} TFT, {text}, {found['parameters']:,} parameters"
            note = f"version {found['version']}"
            yield Row(name, found[key], "windows/s", found[key] / rate, "of our bare step", note=note)


if __name__ == "__main__":
    main(measure)

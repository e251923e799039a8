"""What waiting threads cost: training steps by OpenMP threads that spin or sleep, alone and beside busy processes.

`OMP_WAIT_POLICY=passive`, which nqcast sets where nothing else is set, lets a thread that has nothing to do sleep. By
default it spins for a while, which takes the core from those that have. Each case runs in a process of its own, in
turn, and the better of two counts.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from benchmarks.material import BareStep, random_batch
from benchmarks.measuring import Row, in_own_process, main, quick, seconds_per_call

from nqcast.model import MIGT_TVDT, ModelConfig, fuse

BATCH = 128


def run_case(kernels: str, tokens: bool, threads: int) -> dict[str, float]:
    """Windows per second of the bare step, fp32, by `threads` threads that wait as OMP_WAIT_POLICY says."""
    torch.set_num_threads(threads)
    model = fuse(MIGT_TVDT(ModelConfig(kernels=kernels, tokens=tokens), seed=0)).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters()), torch.autocast("cpu", enabled=False))
    data = random_batch(model.config, BATCH)
    return {"rate": BATCH / seconds_per_call(lambda: step(data), warm=2)}


@contextmanager
def busy_processes(n: int) -> Iterator[None]:
    """`n` processes that use a core each."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def measure() -> Iterator[Row]:
    """Spinning and sleeping, alone and with as many busy processes as there are cores; ratios to spinning."""
    threads = os.cpu_count() or 2
    os.environ.pop("OMP_NUM_THREADS", None)
    for busy in (0, threads):
        for kernels, tokens in (("fused", True), ("plain", True), ("plain", False)):
            rates = {"active": 0.0, "passive": 0.0}
            for policy in tuple(rates) * (1 if quick() else 2):
                os.environ["OMP_WAIT_POLICY"] = policy
                with busy_processes(busy):
                    case = {"kernels": kernels, "tokens": tokens, "threads": threads}
                    rates[policy] = max(rates[policy], in_own_process("benchmarks.wait_policy", case)["rate"])
            what = f"{kernels} kernels" if tokens else "without attention"
            for policy, rate in rates.items():
                name = f"{what}, {threads} threads, OMP_WAIT_POLICY={policy}, {busy} busy processes beside"
                yield Row(name, rate, "windows/s", rate / rates["active"], "of active")


if __name__ == "__main__":
    main(measure)

"""What keeping freed memory saves: training steps of the laptop model with and without it, each in its own process."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from benchmarks.material import BareStep, random_batch
from benchmarks.measuring import Row, in_own_process, main, seconds_per_call

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training.device import keep_freed_memory

BATCH = 128


def run_case(keep: bool) -> dict[str, float]:
    """Windows per second of the bare step, fp32, on torch's own threads."""
    if keep:
        keep_freed_memory()
    model = MIGT_TVDT(ModelConfig(kernels="plain"), seed=0).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters()), torch.autocast("cpu", enabled=False))
    data = random_batch(model.config, BATCH)
    return {"rate": BATCH / seconds_per_call(lambda: step(data), warm=3)}


def measure() -> Iterator[Row]:
    """Both twice, in turn; the better of two counts."""
    rates = {False: 0.0, True: 0.0}
    for keep in (False, True) * 2:
        rates[keep] = max(rates[keep], in_own_process("benchmarks.host_memory", {"keep": keep})["rate"])
    for keep, name in ((False, "freed memory goes back to the kernel"), (True, "freed memory is kept")):
        yield Row(name, rates[keep], "windows/s", rates[keep] / rates[False], "of giving it back")


if __name__ == "__main__":
    main(measure)

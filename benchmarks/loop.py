"""The training loop of the laptop model: its overhead over the bare step, and the loop of the tutorials beside it.

Every loop runs in a process of its own, twice in turn, and the better figure counts.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.ceilings import device
from benchmarks.material import BareStep, data_module
from benchmarks.measuring import PeakMemory, Row, budget, clock, in_own_process, main
from benchmarks.windows import BATCH, sample_loader

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import create_trainer
from nqcast.training.config import TrainConfig

SESSIONS, STEPS = 40, 8
Rates = dict[str, float]


def tutorial(workers: int) -> Rates:
    """Per-sample DataLoader, eager fp32, the same model, loss, clipping and AdamW; windows per second."""
    module = data_module(SESSIONS)
    model = MIGT_TVDT(ModelConfig(), seed=0).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters(), lr=1e-4), torch.autocast("cpu", enabled=False))
    loader = sample_loader(module, BATCH * STEPS, workers)

    def epoch() -> None:
        for batch in loader:
            step(batch)

    with PeakMemory() as peak:
        epoch()
        rate = BATCH * STEPS / _best(epoch)
    return {"rate": rate, "peak_mb": peak.mb}


def ours(compile: str) -> Rates:
    """Trainer and bare step in turn, in one process, on one model: windows per second of both.

    The bare step has what the Trainer trains with, its batches lie ready, and nothing looks at its result.
    """
    module = data_module(SESSIONS, BATCH, windows=BATCH * STEPS)
    config = TrainConfig(batch_size=BATCH, accumulation=1, every_minutes=None, compile=compile)
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak:
        trainer = create_trainer(MIGT_TVDT(ModelConfig(), seed=0), config, module, folder)
        bare = BareStep(trainer.model, trainer.optimizer, trainer.precision.autocast())
        batches = list(trainer.train_loader)[:STEPS]

        def loop() -> None:
            trainer.progress.batch = 0
            trainer._train_epoch()

        def steps() -> None:
            for batch in batches:
                bare(batch)

        loop(), steps()  # compiled, if at all
        seconds: dict[str, list[float]] = {"loop": [], "bare": []}
        started = clock()
        while len(seconds["bare"]) < 4 or clock() - started < 5 * budget():
            for name, run in (("loop", loop), ("bare", steps)):
                begun = clock()
                run()
                seconds[name].append(clock() - begun)
    overhead = statistics.median(a / b for a, b in zip(seconds["loop"], seconds["bare"], strict=True)) - 1
    rates = {name: BATCH * STEPS / min(times) for name, times in seconds.items()}
    return {**rates, "overhead": overhead, "peak_mb": peak.mb}


def run_case(kind: str, **options: Any) -> Rates:
    """One loop, for `in_own_process`."""
    return {"tutorial": tutorial, "ours": ours}[kind](**options)


def _best(run: Callable[[], None]) -> float:
    times: list[float] = []
    started = clock()
    while len(times) < 3 or clock() - started < 2 * budget():
        begun = clock()
        run()
        times.append(clock() - begun)
    return min(times)


def measure() -> Iterator[Row]:
    """Trainer eager and compiled against the bare step and against the loop of the tutorials."""
    loops = [{"kind": "tutorial", "workers": 0}, {"kind": "tutorial", "workers": 2}]
    mine = [{"kind": "ours", "compile": mode} for mode in ("none", "default")]
    found: dict[str, Rates] = {}
    for case in (loops + mine) * 2:
        rates, name = in_own_process("benchmarks.loop", case), str(case)
        key = "rate" if "rate" in rates else "loop"
        if name not in found or rates[key] > found[name][key]:
            found[name] = rates
    usual = max(found[str(case)]["rate"] for case in loops)
    for case in loops:
        rates = found[str(case)]
        text = f"per-sample DataLoader, {case['workers']} workers, eager fp32"
        yield Row(text, rates["rate"], "windows/s", rates["rate"] / usual, "of the better DataLoader", rates["peak_mb"])
    for case in mine:
        rates, text = found[str(case)], "eager" if case["compile"] == "none" else "compiled"
        note = f"{100 * rates['overhead']:+.1f} % over the bare step of {rates['bare']:,.0f} windows/s"
        ratio = rates["loop"] / usual
        yield Row(
            f"Trainer, {text}, {device()}",
            rates["loop"],
            "windows/s",
            ratio,
            "the DataLoader loop",
            rates["peak_mb"],
            note,
        )


if __name__ == "__main__":
    main(measure)

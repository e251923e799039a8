"""The training loop of the laptop model: its overhead over the bare step, and the loop of the tutorials beside it.

With attention over the window, as on the embedded market, and without (`model.tokens=false`), as conf/nq has it; with
torch's operations alone (`model.kernels=plain`) and with the fused ones of nqcast.model.fused, in either loop. The
better DataLoader loop on torch's operations, in eager fp32, is what the others are compared with.
Every loop runs in a process of its own, twice in turn (once in a quick run), and the better figure counts.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from typing import Any

import torch
from benchmarks.ceilings import device
from benchmarks.material import BareStep, data_module
from benchmarks.measuring import PeakMemory, Row, budget, clock, in_own_process, main, quick
from benchmarks.windows import BATCH, sample_loader

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training import create_trainer
from nqcast.training.config import TrainConfig

SESSIONS = 40
STEPS = {True: 8, False: 32}  # of an epoch, with attention over the window and without
Rates = dict[str, float]


def tutorial(workers: int, tokens: bool = True, kernels: str = "plain") -> Rates:
    """Per-sample DataLoader, eager fp32, the same model, loss, clipping and AdamW; windows per second."""
    module, windows = data_module(SESSIONS), BATCH * STEPS[tokens]
    model = fuse(MIGT_TVDT(ModelConfig(tokens=tokens, kernels=kernels), seed=0)).train()
    step = BareStep(model, torch.optim.AdamW(model.parameters(), lr=1e-4), torch.autocast("cpu", enabled=False))
    loader = sample_loader(module, windows, workers)

    def epoch() -> None:
        for batch in loader:
            step(batch)

    with PeakMemory() as peak:
        epoch()
        rate = windows / _best(epoch)
    return {"rate": rate, "peak_mb": peak.mb}


def ours(kernels: str, compile: str = "none", precision: str = "fp32", tokens: bool = True) -> Rates:
    """Trainer and bare step in turn, in one process, on one model: windows per second of both.

    The bare step has what the Trainer trains with, its batches lie ready, and nothing looks at its result.
    """
    windows = BATCH * STEPS[tokens]
    module = data_module(SESSIONS, BATCH, windows)
    model = ModelConfig(tokens=tokens, kernels=kernels)
    config = TrainConfig(batch_size=BATCH, accumulation=1, every_minutes=None, compile=compile, precision=precision)
    with tempfile.TemporaryDirectory() as folder, PeakMemory() as peak:
        trainer = create_trainer(fuse(MIGT_TVDT(model, seed=0)), config, module, folder)
        bare = BareStep(trainer.model, trainer.optimizer, trainer.precision.autocast())
        batches = list(trainer.train_loader)[: STEPS[tokens]]

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
    rates = {name: windows / min(times) for name, times in seconds.items()}
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


TUTORIAL: list[dict[str, Any]] = [
    {"kind": "tutorial", "workers": 0},
    {"kind": "tutorial", "workers": 2},
    {"kind": "tutorial", "workers": 0, "kernels": "fused"},
]
OURS: list[dict[str, Any]] = [
    {"kind": "ours", "kernels": "plain"},
    {"kind": "ours", "kernels": "plain", "compile": "default", "precision": "bf16"},
    {"kind": "ours", "kernels": "fused"},
    {"kind": "ours", "kernels": "fused", "precision": "bf16"},
]


def measure() -> Iterator[Row]:
    """The Trainer against the bare step and against the loop of the tutorials."""
    for tokens, ours in ((True, OURS), (False, OURS[::2])):
        cases = [{**case, "tokens": tokens} for case in (*TUTORIAL, *ours)]
        found: dict[str, Rates] = {}
        for case in cases * (1 if quick() else 2):
            rates, name = in_own_process("benchmarks.loop", case), _name(case)
            if name not in found or _rate(rates) > _rate(found[name]):
                found[name] = rates
        usual = max(
            found[_name(case)]["rate"] for case in cases if case["kind"] == "tutorial" and "kernels" not in case
        )
        for name, rates in found.items():
            note = ""
            if "loop" in rates:
                note = f"{100 * rates['overhead']:+.1f} % over the bare step of {rates['bare']:,.0f} windows/s"
            of = "the better DataLoader loop"
            yield Row(name, _rate(rates), "windows/s", _rate(rates) / usual, of, rates["peak_mb"], note)


def _rate(rates: Rates) -> float:
    return rates["rate"] if "rate" in rates else rates["loop"]


def _name(case: dict[str, Any]) -> str:
    model = "" if case["tokens"] else "no attention: "
    kernels = f"{case.get('kernels', 'plain')} kernels"
    if case["kind"] == "tutorial":
        return f"{model}per-sample DataLoader, {case['workers']} workers, eager fp32, {kernels}"
    how = "compiled" if "compile" in case else "eager"
    return f"{model}Trainer, {how} {case.get('precision', 'fp32')}, {kernels}, {device()}"


if __name__ == "__main__":
    main(measure)

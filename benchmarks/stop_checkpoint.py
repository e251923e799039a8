"""From the end of the step in which SIGTERM came to a durable checkpoint: written, hashed, synced and renamed.

python -m benchmarks.stop_checkpoint [--quick] [--json FILE]
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.material import random_batch
from benchmarks.measuring import Row, clock, main, quick

from nqcast import stopping
from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.training import TrainConfig, Trainer

BAR_SECONDS = 1.0
BATCH = 4  # windows; the time after a step does not depend on it


def seconds_after_the_step(size: str, directory: Path) -> float:
    """One run that is told to stop in its third step."""
    config = ModelConfig(size=size, patch_length=24)
    batches = [random_batch(config, BATCH)] * 8
    train = TrainConfig(batch_size=BATCH, accumulation=2, warmup_steps=4, device="cpu", epochs=2)
    trainer = Trainer(MIGT_TVDT(config, seed=0), train, batches, batches[:1], directory, "cpu")
    ended: list[float] = []

    class Watched(type(trainer.stepper)):  # type: ignore[misc]
        def __call__(self, *arguments: Any) -> Any:
            if len(ended) == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            result = super().__call__(*arguments)
            ended.append(clock())
            return result

    trainer.stepper.__class__ = Watched
    try:
        with stopping.finishing(trainer.request_stop):
            trainer.train()
    except stopping.RunStopped:
        pass
    finally:
        stopping.forget()
    if len(ended) != 3 or trainer.status != "stopped":
        raise RuntimeError(f"expected a stop in the third step, found {trainer.status} after {len(ended)}")
    return clock() - ended[-1]


def measure() -> Iterator[Row]:
    """Both sizes; the slowest of several stops counts."""
    previous = signal.signal(signal.SIGTERM, lambda number, _: stopping.ask(number) and None)
    try:
        for size in ("laptop", "full"):
            with tempfile.TemporaryDirectory() as root:
                stops = 2 if quick() else 10
                times = sorted(seconds_after_the_step(size, Path(root) / str(k)) for k in range(stops))
            note = f"median {1e3 * times[len(times) // 2]:.0f} ms of {stops}"
            slowest = times[-1]
            yield Row(f"slowest stop, {size}", 1e3 * slowest, "ms", BAR_SECONDS / slowest, "of one second", note=note)
    finally:
        signal.signal(signal.SIGTERM, previous)


if __name__ == "__main__":
    main(measure)

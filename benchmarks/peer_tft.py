"""Windows per second that pytorch-forecasting's TFT trains; run by a Python that has it: `peer_tft.py '{…}'`.

It imports nothing of this project. The loop is plain PyTorch (forward, quantile loss, backward, clipping, AdamW),
without Lightning; the decoder has five steps, one for each of our horizons.
"""

from __future__ import annotations

import json
import os
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import torch

warnings.filterwarnings("ignore")
LEVELS = [0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95]


def dataset(context: int, variables: int) -> Any:
    """A table of `variables` unknown and four known reals, as a TimeSeriesDataSet."""
    from pytorch_forecasting import TimeSeriesDataSet

    rng = np.random.default_rng(0)
    n = context + 4096
    names = [f"x{i}" for i in range(variables)]
    frame = pd.DataFrame(rng.normal(size=(n, variables)), columns=names)
    known = {f"clock{i}": rng.normal(size=n) for i in range(4)}
    frame = frame.assign(time_idx=np.arange(n), series="NQ", y=rng.normal(size=n), **known)
    return TimeSeriesDataSet(
        frame, time_idx="time_idx", target="y", group_ids=["series"], max_encoder_length=context,
        min_encoder_length=context, max_prediction_length=5, min_prediction_length=5,
        time_varying_unknown_reals=names, time_varying_known_reals=list(known), target_normalizer=None,
    )  # fmt: skip


def network(data: Any, parameters: int) -> torch.nn.Module:
    """The TFT whose parameter count is nearest to `parameters`."""
    from pytorch_forecasting import TemporalFusionTransformer
    from pytorch_forecasting.metrics import QuantileLoss

    def make(width: int) -> torch.nn.Module:
        return TemporalFusionTransformer.from_dataset(
            data, hidden_size=width, hidden_continuous_size=max(width // 2, 1), attention_head_size=2, lstm_layers=1,
            dropout=0.1, output_size=len(LEVELS), loss=QuantileLoss(LEVELS), log_interval=-1,
        )  # fmt: skip

    count = {width: sum(p.numel() for p in make(width).parameters()) for width in range(4, 33, 2)}
    return make(min(count, key=lambda width: abs(count[width] - parameters)))


def clock() -> float:
    """Seconds of wall time, or of this process's work, as `measuring.clock` has it."""
    return time.process_time() if os.environ.get("NQCAST_BENCH_CLOCK") == "cpu" else time.perf_counter()


def trained_per_second(run: Callable[[], int], seconds: float) -> float:
    """Windows per second, the best of passes that fill `seconds`, after one that warms up."""
    run()
    best, started = 0.0, clock()
    while best == 0.0 or clock() - started < seconds:
        begun = clock()
        best = max(best, run() / (clock() - begun))
    return best


def main(context: int, variables: int, batch: int, parameters: int, seconds: float) -> dict[str, Any]:
    import pytorch_forecasting
    from pytorch_forecasting.metrics import QuantileLoss

    data = dataset(context, variables)
    model, loss = network(data, parameters).train(), QuantileLoss(LEVELS)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    loader = data.to_dataloader(train=True, batch_size=batch, num_workers=0)

    def step(x: Any, y: Any) -> int:
        loss(model(x)["prediction"], y).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return len(y[0])

    def some(batches: Any) -> int:
        return sum(step(*pair) for pair, _ in zip(batches, range(4), strict=False))

    ready = [pair for pair, _ in zip(loader, range(4), strict=False)]
    rates = {"step": trained_per_second(lambda: some(ready), seconds)}
    rates["loop"] = trained_per_second(lambda: some(loader), seconds)
    count = sum(p.numel() for p in model.parameters())
    return {**rates, "parameters": count, "version": pytorch_forecasting.__version__}


if __name__ == "__main__":
    print(json.dumps(main(**json.loads(sys.argv[1]))))

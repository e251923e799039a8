"""How long a forecast takes, from one window and from raw bars, and windows per second in batches.

Untrained weights: they cost what trained ones do.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch
from benchmarks.material import checkpoint, data_module, minutes, random_batch
from benchmarks.measuring import Row, main, quick, seconds_per_call

from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.model import MIGT_TVDT

SESSIONS = (25, 250)  # of one-minute bars given to `forecast`: the least it asks for, and a year


def measure() -> Iterator[Row]:
    """Latency at batch 1 by size, throughput at batch 256, and the whole road from raw bars."""
    module = data_module(60)
    for size in ("laptop", "full"):
        forecaster = Forecaster(checkpoint(module, size), config=ForecastConfig(min_bars=3000))
        alone = seconds_per_call(_network(forecaster.model, 1))
        yield Row(f"one window through the network, {size}", 1e3 * alone, "ms", 1.0, "itself")
        if size == "full" and quick():
            continue
        batch = 256 if size == "laptop" else 4
        rate = batch / seconds_per_call(_network(forecaster.model, batch))
        yield Row(f"batches of {batch}, {size}", rate, "windows/s", rate * alone, "of one window at a time")
        for sessions in SESSIONS[:1] if quick() or size == "full" else SESSIONS:
            raw = _last(minutes(max(60, sessions)), sessions)
            seconds = seconds_per_call(lambda f=forecaster, raw=raw: f.forecast(raw))
            text = f"{sessions} sessions of minutes to a forecast, {size}"
            yield Row(text, 1e3 * seconds, "ms", seconds / alone, "of one window")


def _network(model: MIGT_TVDT, batch: int) -> Any:
    data = random_batch(model.config, batch)

    @torch.inference_mode()
    def call() -> None:
        model(data["features"], None, data["temporal_info"], data["scale"])

    return call


def _last(raw: pd.DataFrame, sessions: int) -> pd.DataFrame:
    opened = raw["ts"][np.flatnonzero(raw["ts"].diff() > pd.Timedelta(minutes=30))]
    return raw[raw["ts"] >= opened.iloc[-sessions]] if len(opened) > sessions else raw


if __name__ == "__main__":
    main(measure)

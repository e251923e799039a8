"""How long a forecast takes, from one window and from raw bars.

    OMP_NUM_THREADS=1 python benchmarks/forecast_latency.py --hardware 2-core-cpu --date 2026-11-22

writes benchmarks/forecast_latency_<hardware>_<date>.json. Untrained weights: they cost what trained ones do.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nqcast.data.config import FEATURES, HORIZONS, LEVELS, ScaleConfig
from nqcast.data.features import build_features
from nqcast.data.scale import make_scale
from nqcast.data.splits import make_splits, positions
from nqcast.data.windows import WindowTable
from nqcast.forecast.forecaster import Forecaster
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation_config import SimulationConfig
from nqcast.market.simulator import simulate
from nqcast.model import MIGT_TVDT
from nqcast.model.config import ModelConfig

HERE = Path(__file__).resolve().parent
SESSIONS = (25, 250)  # of 1-minute bars given to `forecast`: the least it asks for, and a year


def checkpoint(features: pd.DataFrame, size: str) -> dict[str, Any]:
    """An untrained model of this size on a fitted scale."""
    scale = make_scale(ScaleConfig(), LEVELS).fit(features, positions(make_splits(features), "train"))
    arrays, scalars = scale.state()
    config = ModelConfig(size=size)
    model = MIGT_TVDT(config, seed=0)
    rows = features.loc[features["traded"], list(FEATURES)].to_numpy()
    model.set_base(scale.unit_quantiles_HQ, rows.mean(axis=0), rows.std(axis=0))
    tensors = {f"model.{name}": tensor.numpy() for name, tensor in model.state_dict().items()}
    metadata = {
        **{"model": config.model_dump(mode="json"), "scale": scalars, "features": list(FEATURES)},
        **{"quantiles": list(LEVELS), "horizons": list(HORIZONS), "fingerprint": "untrained"},
    }
    return {"tensors": tensors | {f"scale.{name}": array for name, array in arrays.items()}, "metadata": metadata}


def milliseconds(call: Callable[[], Any], repeats: int) -> dict[str, float]:
    """Median and 95th percentile of wall time over `repeats` calls, after three that warm up."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - begun))
    return {"median_ms": round(float(np.median(times)), 2), "p95_ms": round(float(np.percentile(times, 95)), 2)}


def measure(repeats: int) -> dict[str, Any]:
    """Latencies by model size: one window through the network, and raw bars to a forecast."""
    raw = simulate(SimulationConfig(sessions=max(SESSIONS)))
    ts = raw["ts"]
    opened = ts[ts.diff() > pd.Timedelta(minutes=30)]
    features = build_features(build_bars(raw, IngestConfig()).bars)
    results: dict[str, Any] = {}
    for size in ("laptop", "full"):
        forecaster = Forecaster(checkpoint(features, size))
        table = WindowTable(features.iloc[-300:], None, "cpu", forecaster.model.config.context)
        window: Any = table.gather(np.array([299]))
        scale = torch.full((1, len(HORIZONS)), 1e-3)

        def network(model: MIGT_TVDT = forecaster.model, window: Any = window, scale: Any = scale) -> None:
            with torch.inference_mode():
                model(window["features"], None, window["temporal_info"], scale)

        results[size] = {"window_to_quantiles": milliseconds(network, repeats)}
        for sessions in SESSIONS:
            bars = raw if sessions == max(SESSIONS) else raw[ts >= opened.iloc[-sessions]]

            def whole(forecaster: Forecaster = forecaster, bars: pd.DataFrame = bars) -> None:
                forecaster.forecast(bars)

            results[size][f"{sessions}_sessions_of_minutes_to_forecast"] = milliseconds(whole, max(repeats // 5, 5))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hardware", required=True, help="what it was measured on, such as 2-core-cpu")
    parser.add_argument("--date", required=True, help="YYYY-MM-DD")
    parser.add_argument("--repeats", type=int, default=50, help="timed calls")
    arguments = parser.parse_args()
    results = {"threads": torch.get_num_threads(), "torch": torch.__version__, **measure(arguments.repeats)}
    path = HERE / f"forecast_latency_{arguments.hardware}_{arguments.date}.json"
    path.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

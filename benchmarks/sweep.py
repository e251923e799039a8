"""Forecasts of many anchors, streamed to a verified parquet file, beside the bare forward pass; and their memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from benchmarks.ceilings import device
from benchmarks.material import checkpoint, data_module
from benchmarks.measuring import PeakMemory, Row, main, quick, seconds_per_call
from kedro.io import Version

from nqcast.datasets import VerifiedDataset
from nqcast.evaluation.config import EvaluateConfig
from nqcast.forecast.predictor import load_model, predict_stream
from nqcast.training.device import pick_device

BATCH = EvaluateConfig().batch_size


def measure() -> Iterator[Row]:
    """Laptop model over the anchors of a simulated market; the stream includes scale, rows and the file's fsync."""
    sessions = 60 if quick() else 250
    module = data_module(sessions)
    artifact, place = checkpoint(module, "laptop"), pick_device(device())
    model = load_model(artifact).to(place)
    positions = np.arange(300, len(module.features) - 1)
    batches = [module.table.gather(positions[i * BATCH : (i + 1) * BATCH], full=True) for i in range(8)]
    inputs = [(b["features"].to(place), None, {k: v.to(place) for k, v in b["temporal_info"].items()}) for b in batches]
    scale = batches[0]["scale"].to(place)

    def forward() -> None:
        with torch.inference_mode():
            for i in range(len(positions) // BATCH):
                model(*inputs[i % len(inputs)], scale)
        if place.type == "cuda":
            torch.cuda.synchronize()

    def stream(count: int = len(positions)) -> None:
        frames = predict_stream(artifact, module.features, positions[:count], EvaluateConfig(device=device()))
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "predictions.parquet")
            inner, version = "nqcast.datasets.StreamedParquetDataset", Version(None, "2026-01-01T00.00.00.000Z")
            VerifiedDataset(filepath=path, dataset=inner, version=version).save(frames)

    with PeakMemory() as peak:  # first: what the bare pass has freed would be taken again and not be seen
        whole = len(positions) / seconds_per_call(stream, least=2, warm=0)
    bare = len(positions) // BATCH * BATCH / seconds_per_call(forward, least=2)
    note = f"{len(positions):,} anchors, {peak.mb / len(positions) * 1024:.1f} kB an anchor at the peak"
    yield Row(
        "stream to verified parquet, laptop fp32",
        whole,
        "anchors/s",
        whole / bare,
        "of the bare forward pass",
        peak.mb,
        note,
    )
    yield Row(f"forward pass, batch {BATCH}, laptop fp32", bare, "anchors/s", 1.0, "itself")


if __name__ == "__main__":
    main(measure)

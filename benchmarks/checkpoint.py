"""Working checkpoints: writing and verifying, beside writing and hashing the same bytes."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from benchmarks.ceilings import disk_bytes
from benchmarks.material import BareStep, random_batch
from benchmarks.measuring import Row, main, seconds_per_call

from nqcast.model import MIGT_TVDT, ModelConfig
from nqcast.storage.checkpoint import MANIFEST, Checkpoint, Metadata, TrainingState, checkpoint_files, read_checkpoint
from nqcast.storage.verified import write_folder
from nqcast.training.resume import as_arrays, pack_optimizer, pack_rng


def measure() -> Iterator[Row]:
    """Both sizes: weights, both moments, the generators' state."""
    for size in ("laptop", "full"):
        model = MIGT_TVDT(ModelConfig(size=size, patch_length=24), seed=0).train()
        optimizer = torch.optim.AdamW(model.parameters())
        BareStep(model, optimizer, torch.autocast("cpu", enabled=False))(random_batch(model.config, 1))
        moments, groups = pack_optimizer(optimizer)
        moments_and_rng = as_arrays(moments, "optimizer") | as_arrays(pack_rng(), "rng")
        training = TrainingState(moments_and_rng, {"optimizer_groups": groups})
        content = Checkpoint(as_arrays(model.state_dict(), "model"), Metadata(), training)
        with tempfile.TemporaryDirectory() as root:
            folder = Path(root) / "checkpoint_epoch_0001"
            write = seconds_per_call(
                lambda folder=folder, content=content: write_folder(
                    folder, checkpoint_files(content), MANIFEST, replace=True
                )
            )
            verify = seconds_per_call(lambda folder=folder: read_checkpoint(folder))
            size_bytes = sum(path.stat().st_size for path in folder.iterdir())
        data = os.urandom(size_bytes)
        hashing = seconds_per_call(lambda data=data: hashlib.sha256(data).digest())
        mb, plain = size_bytes / 1e6, size_bytes / disk_bytes() + hashing
        text = "of writing and hashing the bytes"
        yield Row(f"write, {size}, {mb:.1f} MB", 1e3 * write, "ms", write / plain, text, note=f"{mb / write:,.0f} MB/s")
        yield Row(f"verify and read, {size}", 1e3 * verify, "ms", verify / hashing, "of hashing the bytes")


if __name__ == "__main__":
    main(measure)

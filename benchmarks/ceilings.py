"""What this machine can do at best: matrix products in fp32 and bf16, copying memory, writing to the disk."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import torch
from benchmarks.measuring import Row, main, seconds_per_call


def device() -> str:
    """The GPU where there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@cache
def matmul_flops(precision: str) -> float:
    """Most floating-point operations per second of a square product, over three sizes."""
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    best = 0.0
    for size in (1024, 2048, 4096) if device() == "cpu" else (4096, 8192):
        a, b = (torch.randn(size, size, device=device()).to(dtype) for _ in range(2))
        best = max(best, 2 * size**3 / seconds_per_call(lambda a=a, b=b: _wait(a @ b)))
    return best


@cache
def copy_bytes() -> float:
    """Bytes per second that a copy of a large tensor reads and writes."""
    source = torch.ones(2**26, device=device())  # 256 MB: beyond every cache
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / seconds_per_call(lambda: _wait(target.copy_(source)))


@cache
def disk_bytes() -> float:
    """Bytes per second that 64 MB take to reach the disk, fsync included."""
    content = os.urandom(2**26)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"

        def write() -> None:
            with path.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())

        return len(content) / seconds_per_call(write)


def _wait(result: torch.Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()


def measure() -> Iterator[Row]:
    """The four ceilings."""
    fp32 = matmul_flops("fp32")
    yield Row("matrix product fp32", fp32 / 1e9, "GFLOP/s", 1.0, "itself")
    yield Row("matrix product bf16", matmul_flops("bf16") / 1e9, "GFLOP/s", matmul_flops("bf16") / fp32, "of fp32")
    yield Row("memory copy", copy_bytes() / 1e9, "GB/s", copy_bytes() / fp32, "bytes per fp32 operation")
    yield Row("disk write with fsync", disk_bytes() / 1e9, "GB/s", disk_bytes() / copy_bytes(), "of the memory copy")


if __name__ == "__main__":
    main(measure)

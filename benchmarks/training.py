"""The training step by model size, patch length, precision and kernels: windows/s, memory, share of the ceilings.

Operations are counted by torch's own counter over a forward and a backward pass of its plain kernels, for fused ones
too, though these compute their forward pass twice; bytes are what the plain operations read and write, as if nothing
stayed in a cache, so that their share of the memory copy may exceed 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from benchmarks.ceilings import copy_bytes, device, matmul_flops
from benchmarks.material import BareStep, random_batch
from benchmarks.measuring import PeakMemory, Row, budget, clock, in_own_process, main, quick, seconds_per_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training.device import Precision, pick_device

VIEWS = (
    "view",
    "expand",
    "permute",
    "transpose",
    "slice",
    "select",
    "unsqueeze",
    "squeeze",
    "detach",
    "alias",
    "as_strided",
)


class ByteCounter(TorchDispatchMode):
    """Sums the bytes of the tensors that each operation takes and gives; views cost nothing."""

    bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not any(func.overloadpacket.__name__.startswith(name) for name in VIEWS):
            tensors = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        return result


def run_case(size: str, patch: int, precision: str, way: str, batch: int) -> dict[str, float]:
    """Seconds of a step, its operations and bytes, and the peak of the process or of the GPU."""
    torch.manual_seed(0)
    place = pick_device(device())
    model = ModelConfig(size=size, patch_length=patch, kernels="fused" if way == "fused" else "plain")
    with PeakMemory() as peak:
        seconds = _seconds(model, precision, way == "compiled", batch, place)
    mb = torch.cuda.max_memory_allocated() / 2**20 if place.type == "cuda" else peak.mb
    # only now: memory that these have freed is kept, and would hide what a step takes
    flop, moved = _work(model, precision, batch, place)
    flops_per_second, bytes_per_second = matmul_flops(precision), copy_bytes()
    return {
        "seconds": seconds,
        "gflop": flop / 1e9 / batch,
        "flops_share": flop / seconds / flops_per_second,
        "bytes_share": moved / seconds / bytes_per_second,
        "peak_mb": mb,
    }


def _build(config: ModelConfig, precision: str, place: torch.device) -> BareStep:
    model = fuse(MIGT_TVDT(config, seed=0)).to(place).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    return BareStep(model, optimizer, Precision(precision, place).autocast())


def _seconds(config: ModelConfig, precision: str, compiled: bool, batch: int, place: torch.device) -> float:
    step, data = _build(config, precision, place), random_batch(config, batch, place.type)
    if compiled:
        from nqcast.training.device import compile_regions

        compile_regions(step.model, "default", place)
    if place.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = clock()
    _waited(step(data))
    slow = clock() - started > budget() and not compiled
    return seconds_per_call(lambda: _waited(step(data)), least=1 if slow else 3, warm=0 if slow else 1)


def _work(config: ModelConfig, precision: str, batch: int, place: torch.device) -> tuple[int, int]:
    """Operations and bytes of a step by torch's plain kernels."""
    step = _build(config.model_copy(update={"kernels": "plain"}), precision, place)
    data = random_batch(config, batch, place.type)
    with FlopCounterMode(display=False) as flops:
        step.forward_backward(data)
    with ByteCounter() as traffic:
        step.forward_backward(data)
    return flops.get_total_flops(), traffic.bytes


def _waited(result: torch.Tensor) -> None:
    if result.is_cuda:
        torch.cuda.synchronize()


def cases() -> Iterator[dict[str, Any]]:
    """The matrix; a CPU takes the full size in small batches, a quick run leaves its dear corners out."""
    on_gpu = device() == "cuda"
    for size in ("laptop", "full"):
        for patch in (12, 6, 1):
            for precision in ("fp32", "bf16"):
                for way in ("eager", "compiled", "fused"):
                    if way == "fused" and (on_gpu or size == "full" or patch == 1):
                        continue  # not for these
                    batch = 128 if size == "laptop" or on_gpu else max(patch, 1)
                    case = {"size": size, "patch": patch, "precision": precision, "way": way, "batch": batch}
                    compiled = way == "compiled"
                    dear = (size == "full" or patch == 1) and (compiled or precision == "bf16" or patch == 1)
                    if not (quick() and not on_gpu and (dear or (compiled and precision == "bf16"))):
                        yield case


def measure() -> Iterator[Row]:
    """One row a case; its ratio is to eager fp32 of the same size and patch."""
    plain: dict[tuple[str, int], float] = {}
    for case in cases():
        found = in_own_process("benchmarks.training", case)
        rate, key = case["batch"] / found["seconds"], (case["size"], case["patch"])
        plain.setdefault(key, rate)
        name = f"{case['size']} patch {case['patch']} {case['precision']} {case['way']}"
        note = (
            f"{100 * found['flops_share']:.1f} % of matmul, {100 * found['bytes_share']:.0f} % of copy, "
            f"{found['gflop']:.3g} GFLOP a window"
        )
        text = f"{name} batch {case['batch']}"
        yield Row(text, rate, "windows/s", rate / plain[key], "of eager fp32", found["peak_mb"], note)


if __name__ == "__main__":
    main(measure)

"""The full-size model on one GPU, under ten minutes: time, memory, kernels, roofline, and fp16 through an overflow.

Beside it attention alone over sequences as short as a window's patches, by every kernel that may take it, and one step
whole in a CUDA graph.

`python benchmarks/gpu.py` prints one line per case and writes gpu_<device>_<date>.json (`--out FILE` elsewhere). It
needs torch ≥ 2.11, numpy, pandas, pydantic, safetensors and the packages nqcast.data, nqcast.model and
nqcast.training, no more. `--device cpu --tiny` runs all of it in seconds, to know that it works.
"""

import argparse
import datetime as dt
import gc
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import scaled_dot_product_attention

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))  # also where the package is not installed

from nqcast.batches import outputs
from nqcast.constants import CLOCK, FEATURES, HORIZONS, TARGETS
from nqcast.data.windows import WindowLoader, WindowTable
from nqcast.model import MIGT_TVDT, ModelConfig, fuse
from nqcast.training.config import TrainConfig
from nqcast.training.device import Precision, compile_regions
from nqcast.training.loss_functions import CombinedQuantileLoss
from nqcast.training.scheduler import WarmupCosineScheduler, build_optimizer
from nqcast.training.step import Stepper, StepResult, StepSettings, Tally

GIB = 2**30
EPOCHS, WINDOWS = 18, 808_708  # the long run whose length is asked for
BYTES_PER_PARAMETER = 28  # fp32: gradient written and read, weight and both moments read and written

Attention = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Case:
    """One configuration of the model and its arithmetic."""

    patch: int
    precision: str
    compile: str = "none"
    checkpointing: bool = False

    @property
    def name(self) -> str:
        return f"patch {self.patch} {self.precision} {self.compile}{' checkpointing' if self.checkpointing else ''}"


def plan(tiny: bool) -> list[Case]:
    """Cases, the most wanted first."""
    if tiny:
        return [Case(24, "fp32"), Case(24, "bf16"), Case(24, "bf16", checkpointing=True)]
    eager = [Case(patch, "bf16") for patch in (12, 6, 1)]
    narrow = [Case(12, "fp32"), Case(12, "fp16"), Case(6, "fp32"), Case(6, "fp16")]
    kept = [Case(patch, "bf16", checkpointing=True) for patch in (1, 6, 12)]
    compiled = [Case(patch, "bf16", "default") for patch in (12, 6, 1)]
    rest = [Case(1, "bf16", "default", True), Case(12, "bf16", "reduce-overhead"), Case(1, "fp32"), Case(1, "fp16")]
    return [*eager, *compiled, *kept, *narrow, *rest]


def market(n_rows: int) -> pd.DataFrame:
    """A feature table of noise: the clock counts, the rest is of the sizes that features have."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.standard_normal((n_rows, len(FEATURES))), columns=list(FEATURES))
    frame[list(TARGETS)] = 1e-3 * rng.standard_normal((n_rows, len(TARGETS)))
    rows = np.arange(n_rows)
    ranges = {"bar_in_day": 288, "day_of_week": 5, "day_of_month": 28, "day_of_year": 365}
    for name in CLOCK:
        frame[name] = rows % ranges.get(name, 7)
    return frame


class Loop:
    """Steps as the Trainer takes them: table on the device, counts and skipping on the device, nothing read."""

    def __init__(self, case: Case, table: WindowTable, batch: int, tiny: bool) -> None:
        self.device, self.batch = table.device, batch
        size = {"size": "test"} if tiny else {"size": "full"}
        kernel = "auto" if self.device.type == "cpu" else "sdpa"
        sizes = {"patch_length": case.patch, "attention": kernel, "activation_checkpointing": case.checkpointing}
        self.model = fuse(MIGT_TVDT(ModelConfig(**size, **sizes), seed=0)).to(self.device).train()
        self.compiled = compile_regions(self.model, case.compile, self.device)
        config = TrainConfig(batch_size=batch, warmup_steps=100)
        optimizer = build_optimizer(self.model, config)
        self.scheduler = WarmupCosineScheduler(optimizer, config.warmup_steps, config.t_0)
        self.tally = Tally(self.device)
        loss = CombinedQuantileLoss(config.quantiles).to(self.device)
        precision = Precision(case.precision, self.device)
        step = (self.model, optimizer, loss, precision, StepSettings(config.clip_norm))
        self.stepper = Stepper(*step, rates=lambda: self.scheduler.rates_at(self.tally.batches))
        anchors = np.arange(table.context - 1, table.n_rows)
        self.loader = WindowLoader(table, anchors, batch, seed=0)
        self.batches = self._endless()
        self.done = 0

    def _endless(self) -> Iterator[Any]:
        while True:
            yield from (b for b in self.loader if len(b["targets"]) == self.batch)

    def step(self) -> StepResult:
        """One step of one micro-batch."""
        result = self.stepper([next(self.batches)], self.done)
        self.tally.add(result, 1)
        self.done += 1
        return result


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def timed(loop: Loop, warm: int, steps: int) -> float:
    """Seconds per step."""
    for _ in range(warm):
        loop.step()
    synchronise(loop.device)
    started = time.perf_counter()
    for _ in range(steps):
        loop.step()
    synchronise(loop.device)
    return (time.perf_counter() - started) / steps


def ceilings(device: torch.device, tiny: bool) -> dict[str, float]:
    """What the device reaches: copies (GB/s, read and written) and bf16 matrix products (TFLOP/s)."""
    numbers = torch.ones(2**20 if tiny else 2**28, device=device)
    other, n = torch.empty_like(numbers), 64 if tiny else 8192
    square = torch.ones(n, n, device=device, dtype=torch.bfloat16)

    def best(work: Any) -> float:
        times = []
        for _ in range(5):
            synchronise(device)
            started = time.perf_counter()
            work()
            synchronise(device)
            times.append(time.perf_counter() - started)
        return min(times)

    copy = best(lambda: other.copy_(numbers))
    product = best(lambda: square @ square)
    return {"copy_gb_per_s": 8 * numbers.numel() / copy / 1e9, "bf16_tflop_per_s": 2 * n**3 / product / 1e12}


def flops(loop: Loop) -> int:
    """Floating-point operations of one step's products, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        loop.step()
    return int(counter.get_total_flops())


def attention_kernels(loop: Loop) -> list[str]:
    """Names of the attention kernels that one step launches."""
    activity = torch.profiler.ProfilerActivity
    activities = [activity.CPU, *([activity.CUDA] if loop.device.type == "cuda" else [])]
    with torch.profiler.profile(activities=activities) as profile:
        loop.step()
        synchronise(loop.device)
    wanted = re.compile(r"flash|fmha|efficient_attention|cudnn.*(attention|sdpa)|scaled_dot_product|mha", re.I)
    return sorted({event.key[:120] for event in profile.key_averages() if wanted.search(event.key)})


def waits(loop: Loop) -> str:
    """What torch says of a step that waits for the device; empty where none does."""
    if loop.device.type != "cuda":
        return "not asked on a CPU"
    synchronise(loop.device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(3):
            loop.step()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return ""


def measure(case: Case, table: WindowTable, batch: int, tops: dict[str, float], tiny: bool) -> dict[str, Any]:
    """Figures of one case; {"error": …} where it does not run."""
    cuda = table.device.type == "cuda"
    gc.collect()
    torch.compiler.reset()
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if cuda else 0
    started = time.perf_counter()
    loop = Loop(case, table, batch, tiny)
    seconds = timed(loop, 1 if tiny else 5, 2 if tiny else 15)
    parameters = sum(p.numel() for p in loop.model.parameters())
    result: dict[str, Any] = {
        **asdict(case),
        "compiled": loop.compiled,
        "parameters": parameters,
        "ms_per_step": 1e3 * seconds,
        "windows_per_s": batch / seconds,
        "skipped": loop.tally.read().skipped,
    }
    if cuda:
        peak = torch.cuda.max_memory_allocated() - held
        # at least: what the backward pass keeps, written once and read once; gradient, weights and moments
        least = 2 * max(peak - 16 * parameters, 0) + BYTES_PER_PARAMETER * parameters
        result |= {
            "peak_gib": peak / GIB,
            "least_gb_moved": least / 1e9,
            "share_of_byte_roofline": least / 1e9 / tops["copy_gb_per_s"] / seconds,
        }
    if case.compile == "none" and not case.checkpointing:
        result["share_of_matmul_peak"] = flops(loop) / seconds / (1e12 * tops["bf16_tflop_per_s"])
        result["attention_kernels"] = attention_kernels(loop)
        result["waits_for_the_device"] = waits(loop)
    result["seconds_for_the_case"] = time.perf_counter() - started
    return result


TOKENS, PACKED = 24, 5  # patches of a window; so many of them are packed into a block of 128
BLOCK = 128


def attention_inputs(sequences: int, heads: int, width: int, device: torch.device) -> list[torch.Tensor]:
    """Queries, keys and values (sequences, heads, 24, width) that want gradients, in bf16."""
    shape = (sequences, heads, TOKENS, width)
    return [torch.randn(shape, device=device, dtype=torch.bfloat16).requires_grad_() for _ in range(3)]


def by_products(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Attention as two batched products and a softmax between them."""
    return torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1) @ v


def packed(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Five sequences as one of 128 places, which a mask keeps apart: fewer, larger products, most of them for nothing.

    The eight places left over look at themselves.
    """
    place = torch.arange(BLOCK, device=q.device) // TOKENS
    own_LL = place[:, None] == place[None, :]
    one = scaled_dot_product_attention(*(_blocks(x) for x in (q, k, v)), attn_mask=own_LL)
    found = one[..., : PACKED * TOKENS, :].unflatten(-2, (PACKED, TOKENS)).transpose(1, 2)
    return found.reshape(-1, *q.shape[1:])[: len(q)]


def _blocks(x_SHLD: torch.Tensor) -> torch.Tensor:
    """Sequences (S, H, 24, D) by fives, (⌈S / 5⌉, H, 128, D); places that are nobody's hold zeros."""
    fives = torch.nn.functional.pad(x_SHLD, (0, 0, 0, 0, 0, 0, 0, -len(x_SHLD) % PACKED))
    joined = fives.unflatten(0, (-1, PACKED)).transpose(1, 2).flatten(2, 3)
    return torch.nn.functional.pad(joined, (0, 0, 0, BLOCK - PACKED * TOKENS))


def by_kernel(kernel: SDPBackend) -> Attention:
    """torch's own attention, held to one kernel; RuntimeError where that cannot take the inputs."""

    def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        with sdpa_kernel(kernel):
            return scaled_dot_product_attention(q, k, v)

    return attend


KERNELS: dict[str, Attention] = {
    "bmm": by_products,
    "math": by_kernel(SDPBackend.MATH),
    "efficient": by_kernel(SDPBackend.EFFICIENT_ATTENTION),
    "cuDNN": by_kernel(SDPBackend.CUDNN_ATTENTION),
    "flash": by_kernel(SDPBackend.FLASH_ATTENTION),
    f"{PACKED} of {TOKENS} in {BLOCK}, masked": packed,
}


def short_attention(name: str, device: torch.device, tiny: bool) -> dict[str, Any]:
    """Milliseconds of attention forwards and backwards over 24 tokens, and its error against fp32; {"error": …}."""
    sequences, heads, width = (12, 2, 16) if tiny else (128 * len(FEATURES), 8, 32)
    q, k, v = attention_inputs(sequences, heads, width, device)
    with torch.no_grad():
        exact = by_products(q.float(), k.float(), v.float())
        error = (KERNELS[name](q, k, v).float() - exact).abs().max().item()

    def both() -> None:
        KERNELS[name](q, k, v).sum().backward()

    return {"sequences": sequences, "largest_error": error, "ms": 1e3 * mean_seconds(both, device, 2 if tiny else 50)}


def mean_seconds(work: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of one call, in the mean over `times` after three that are not counted."""
    for _ in range(3):
        work()
    synchronise(device)
    started = time.perf_counter()
    for _ in range(times):
        work()
    synchronise(device)
    return (time.perf_counter() - started) / times


def whole_step(table: WindowTable, batch: int, tiny: bool, patch: int) -> dict[str, Any]:
    """Milliseconds of one step in bf16, launch by launch and, on a GPU, replayed whole from one CUDA graph.

    Forward, backward, clipping, AdamW and zeroing of the gradients, on one batch that lies on the device.
    """
    loop, times = Loop(Case(patch, "bf16"), table, batch, tiny), 2 if tiny else 50
    model, inputs, optimizer, loss = loop.model, next(loop.batches), loop.stepper.optimizer, loop.stepper.loss
    for group in optimizer.param_groups:
        group["capturable"] = loop.device.type == "cuda"

    def step() -> None:
        with torch.autocast(loop.device.type, torch.bfloat16, cache_enabled=False):
            quantiles_BHQ = outputs(model, inputs)["quantiles"].float()
        scale_BH = inputs["scale"]
        loss(quantiles_BHQ / scale_BH[..., None], inputs["targets"] / scale_BH)["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)

    result = {"ms_launched": 1e3 * mean_seconds(step, loop.device, times)}
    if loop.device.type != "cuda":
        return result | {"graph": "not asked on a CPU"}
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    return result | {"graph": "captured", "ms_replayed": 1e3 * mean_seconds(graph.replay, loop.device, times)}


def overflow(table: WindowTable, batch: int, tiny: bool, patch: int) -> dict[str, Any]:
    """fp16: a loss scale that overflows skips the step, halves the scale, and holds weights and schedule."""
    loop = Loop(Case(patch, "fp16"), table, batch, tiny)
    loop.step()
    scaler = loop.stepper.scaler
    before = [p.detach().clone() for p in loop.model.parameters()]
    clock = loop.tally.read().batches
    scaler.update(2.0**100)
    result = loop.step()
    counts = loop.tally.read()
    held = all(torch.equal(a, b) for a, b in zip(before, loop.model.parameters(), strict=True))
    scale = scaler.get_scale()
    scaler.update(2.0**10)
    return {
        "step_skipped": not bool(result.applied) and counts.skipped == 1,
        "weights_held": held,
        "schedule_held": counts.batches == clock,
        "scale_halved": scale == 2.0**99,
        "next_step_applied": bool(loop.step().applied),
    }


def ratios(results: list[dict[str, Any]]) -> dict[str, float]:
    """Peak memory of half precision ÷ that of fp32, eager, by patch length."""
    peaks = {(r["patch"], r["precision"]): r["peak_gib"] for r in results
             if "peak_gib" in r and r["compile"] == "none" and not r["checkpointing"]}  # fmt: skip
    return {f"patch {patch} {name} ÷ fp32": peak / peaks[patch, "fp32"]
            for (patch, name), peak in peaks.items() if name != "fp32" and (patch, "fp32") in peaks}  # fmt: skip


def run(device: torch.device, tiny: bool, minutes: float) -> dict[str, Any]:
    """All cases until the time is used up."""
    begun, batch = time.perf_counter(), 8 if tiny else 128
    rows = 600 if tiny else 200_000
    table = WindowTable(market(rows), np.full((rows, len(HORIZONS)), 1e-3), device)
    tops, cases = ceilings(device, tiny), plan(tiny)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "batch": batch,
        "ceilings": tops,
        "fp16_overflow": attempt(overflow, table, batch, tiny, cases[0].patch),
        "short_attention": {name: attempt(short_attention, name, device, tiny) for name in KERNELS},
        "whole_step": attempt(whole_step, table, batch, tiny, cases[0].patch),
        "cases": [],
        "left_out": [],
    }
    print(json.dumps({name: report[name] for name in ("fp16_overflow", "short_attention", "whole_step")} | tops))
    for case in cases:
        if time.perf_counter() - begun > 60 * minutes:
            report["left_out"].append(case.name)
            continue
        result = {"name": case.name, **attempt(measure, case, table, batch, tops, tiny)}
        report["cases"].append(result)
        print(json.dumps(result), flush=True)
    report["memory_ratios"] = ratios(report["cases"])
    best = max(
        (r["windows_per_s"] for r in report["cases"] if r.get("patch") == cases[0].patch and "error" not in r),
        default=0.0,
    )
    report["long_run_minutes"] = EPOCHS * WINDOWS / best / 60 if best else None
    report["minutes"] = (time.perf_counter() - begun) / 60
    return report


def attempt(work: Any, *inputs: Any) -> dict[str, Any]:
    """What `work` returns, or its error: one case that does not run must not cost the others."""
    try:
        return work(*inputs)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {str(error)[:300]}"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a tiny model and few steps, to see that all of it runs")
    parser.add_argument("--minutes", type=float, default=8.0, help="no case begins after this time")
    parser.add_argument("--out", type=Path, help="JSON file; default beside this script")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("expected a CUDA device, found none; --device cpu --tiny shows that the script works")
    report = run(device, options.tiny, options.minutes)
    label = re.sub(r"[^a-z0-9]+", "-", report["device"].lower()).strip("-")
    out = options.out or Path(__file__).with_name(f"gpu_{label}_{dt.date.today()}.json")
    out.write_text(json.dumps(report, indent=1) + "\n")
    print(f"{report['minutes']:.1f} minutes; written to {out}")


if __name__ == "__main__":
    main()

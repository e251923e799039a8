"""Clock, memory, ceilings and the table: what every benchmark shares.

A figure is a Row: a value with its unit, and its ratio to something measured in the same run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Row:
    """One measured figure. `ratio` is value / that of `of` (for seconds the other way round: more is better)."""

    case: str
    value: float
    unit: str
    ratio: float | None = None
    of: str = ""
    peak_mb: float | None = None
    note: str = ""


def quick() -> bool:
    """Whether the run is a quick one: fewer and smaller cases."""
    return os.environ.get("NQCAST_BENCH_QUICK") == "1"


def budget() -> float:
    """Seconds that one timing may take (the timed calls, without warming up)."""
    return float(os.environ.get("NQCAST_BENCH_SECONDS", "1.0" if quick() else "3.0"))


def clock() -> float:
    """Seconds of wall time, or of this process's work (NQCAST_BENCH_CLOCK=cpu: one thread on a busy machine)."""
    return time.process_time() if os.environ.get("NQCAST_BENCH_CLOCK") == "cpu" else time.perf_counter()


def seconds_per_call(call: Callable[[], Any], least: int = 3, warm: int = 1) -> float:
    """Median time of a call (seconds, `clock`), over as many as fit into the budget and `least` at least."""
    for _ in range(warm):
        call()
    times: list[float] = []
    started = clock()
    while len(times) < least or clock() - started < budget():
        begun = clock()
        call()
        times.append(clock() - begun)
    return statistics.median(times)


class PeakMemory:
    """Within this context: how far the resident memory of the process rises above where it stood (`mb`)."""

    mb = 0.0

    def __enter__(self) -> PeakMemory:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the high-water mark starts anew
        self._before = _resident_mb("VmRSS")
        return self

    def __exit__(self, *error: object) -> None:
        self.mb = max(_resident_mb("VmHWM") - self._before, 0.0)


def _resident_mb(name: str) -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(float(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def in_own_process(module: str, case: dict[str, Any], python: str = sys.executable) -> dict[str, Any]:
    """What `module.run_case(**case)` returns in a fresh process: no case inherits another's memory or caches."""
    code = f"import json,sys; from {module} import run_case; print(json.dumps(run_case(**json.loads(sys.argv[1]))))"
    done = subprocess.run([python, "-c", code, json.dumps(case)], cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{module} {case} failed:\n{done.stderr[-3000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def hardware() -> str:
    """Name of this machine for file names: `2-core-cpu`, or the GPU with its count."""
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()}x{torch.cuda.get_device_name(0)}".lower().replace(" ", "-")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{cores}-core-cpu"


def main(measure: Callable[[], Iterable[Row]]) -> None:
    """Run one benchmark by itself; `--json FILE` writes its rows there, as the runner wants them."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases")
    parser.add_argument("--json", type=Path, help="write the rows to this file as well")
    chosen = parser.parse_args()
    if chosen.quick:
        os.environ["NQCAST_BENCH_QUICK"] = "1"
    rows = list(measure())
    if chosen.json:
        chosen.json.write_text(json.dumps([asdict(row) for row in rows]))
    print(render("", rows))


def render(thing: str, rows: Sequence[Row]) -> str:
    """Rows as aligned text: case, value, unit, ratio, to what, peak memory, note."""
    lines = []
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:9.3g} ×"
        peak = "" if row.peak_mb is None else f"{row.peak_mb:8,.0f} MB"
        tail = "; ".join(part for part in (row.of, row.note) if part)
        value = f"{row.value:,.4g}" if row.value < 1000 else f"{row.value:,.0f}"
        lines.append(f"{thing:<14}{row.case:<52}{value:>12} {row.unit:<11}{ratio:>11}{peak:>12}  {tail}".rstrip())
    return "\n".join(lines)

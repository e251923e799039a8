"""What the machine and this process do, under the names that MLflow's page of system metrics shows."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import time
from typing import Any

MEGABYTE = 1e6


class SystemSampler:
    """sample() gives the present figures; without psutil only those of this process.

    system/process_memory_megabytes and process_peak_memory_megabytes (resident), process_cpu_percentage (100 is one
    core), cpu_utilization_percentage, system_memory_usage_megabytes and _percentage, and of each CUDA device that this
    process uses gpu_<i>_memory_usage_megabytes and gpu_<i>_peak_memory_megabytes.
    """

    def __init__(self) -> None:
        self._before = time.monotonic(), _cpu_seconds()
        self._psutil: Any = None
        if importlib.util.find_spec("psutil") is not None:
            self._psutil = importlib.import_module("psutil")
            self._psutil.cpu_percent()  # counts from here on

    def sample(self) -> dict[str, float]:
        """Figures of now; percentages since the last sample."""
        values = {**self._process(), **self._machine(), **_gpus()}
        return {f"system/{name}": float(value) for name, value in values.items()}

    def _process(self) -> dict[str, float]:
        now, (began, spent) = (time.monotonic(), _cpu_seconds()), self._before
        self._before = now
        share = 100 * (now[1] - spent) / max(now[0] - began, 1e-9)
        return {**_memory(), "process_cpu_percentage": share}

    def _machine(self) -> dict[str, float]:
        if self._psutil is None:
            return {}
        memory = self._psutil.virtual_memory()
        return {
            "cpu_utilization_percentage": self._psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": memory.percent,
        }


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _memory() -> dict[str, float]:
    """Resident memory of this process, now (Linux) and at most."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    found = {"process_peak_memory_megabytes": peak / MEGABYTE}
    try:
        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no path of the user's
            found["process_memory_megabytes"] = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MEGABYTE
    except OSError:  # a system without /proc
        pass
    return found


def _gpus() -> dict[str, float]:
    """Memory of the CUDA devices that this process has begun to use; torch is not imported for it."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return {}
    found: dict[str, float] = {}
    for i in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(i)
        found[f"gpu_{i}_memory_usage_megabytes"] = (total - free) / MEGABYTE
        found[f"gpu_{i}_memory_usage_percentage"] = 100 * (total - free) / total
        found[f"gpu_{i}_peak_memory_megabytes"] = torch.cuda.max_memory_allocated(i) / MEGABYTE
    return found

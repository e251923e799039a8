"""Every benchmark in one run: `make bench`, or `python -m benchmarks [--quick] [--only windows,loop]`.

Prints one table and writes benchmarks/<thing>_<hardware>_<date>.json. Each benchmark runs in a process of its own and
can be run alone: `python -m benchmarks.windows`.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from benchmarks.measuring import ROOT, Row, hardware, render

THINGS = (
    *("ceilings", "features", "fifteen_years", "windows", "loop", "peers", "training", "validation", "sweep"),
    *("forecast_latency", "checkpoint", "startup", "default_run", "host_memory", "wait_policy", "scaling"),
)


def main() -> int:
    """Run the chosen things; 1 when one of them failed (the others are still run and written)."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer and smaller cases: under ten minutes on two cores")
    parser.add_argument("--only", default=",".join(THINGS), help="comma-separated names")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="folder of the JSON files")
    parser.add_argument("--hardware", default=hardware(), help="name of this machine in the files' names")
    parser.add_argument("--date", default=str(dt.date.today()), help="YYYY-MM-DD")
    chosen = parser.parse_args()
    names = chosen.only.split(",")
    if unknown := sorted(set(names) - set(THINGS)):
        parser.error(f"expected names among {', '.join(THINGS)}; found {', '.join(unknown)}")
    failed, started = [], time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="nqcast-bench-") as folder:
        kept = os.environ.get("NQCAST_BENCH_FOLDER", folder)  # name a folder to draw the simulated bars only once
        environment = {**os.environ, "NQCAST_BENCH_FOLDER": kept, "NQCAST_BENCH_QUICK": str(int(chosen.quick))}
        for name in names:
            begun = time.perf_counter()
            path = Path(folder) / f"{name}.json"
            command = [sys.executable, "-m", f"benchmarks.{name}", "--json", str(path)]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                failed.append(name)
                print(f"{name:<14}FAILED\n{done.stderr[-2000:]}", flush=True)
                continue
            rows = json.loads(path.read_text())
            seconds = round(time.perf_counter() - begun, 1)
            _write(chosen, name, rows, seconds)
            print(render(name, [Row(**row) for row in rows]), flush=True)
    print(f"{time.perf_counter() - started:,.0f} s in all" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def _write(chosen: argparse.Namespace, name: str, rows: list[dict[str, object]], seconds: float) -> None:
    about = {
        **{"thing": name, "hardware": chosen.hardware, "date": chosen.date, "quick": chosen.quick, "seconds": seconds},
        **{"threads": torch.get_num_threads(), "torch": torch.__version__, "python": platform.python_version()},
    }
    chosen.out.mkdir(parents=True, exist_ok=True)
    path = chosen.out / f"{name}_{chosen.hardware}_{chosen.date}.json"
    path.write_text(json.dumps({**about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main())

"""5.4 million simulated one-minute bars (15 years), from a file through ingest and features: time and memory."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import PeakMemory, Row, clock, in_own_process, main, quick

SESSIONS = 3790  # of some 1,428 one-minute rows, those of overlapping contracts included
START = "2008-12-01"  # so that the last of them is over


def make(sessions: int, path: str) -> dict[str, Any]:
    """Draw the bars into a file."""
    from nqcast.market.simulation.config import SimulationConfig
    from nqcast.market.simulation.simulator import simulate

    raw = simulate(SimulationConfig(sessions=sessions, start=START))
    raw.to_parquet(path)
    return {"rows": len(raw)}


def build(path: str) -> dict[str, Any]:
    """Read, ingest, features: seconds of each and the peak of the process."""
    from nqcast.data.features import build_features
    from nqcast.market.config import IngestConfig
    from nqcast.market.ingest import build_bars
    from nqcast.market.vendor import read_bars

    seconds, begun = {}, clock()
    with PeakMemory() as peak:
        raw = read_bars(path)
        seconds["read"], begun = clock() - begun, clock()
        ingested = build_bars(raw, IngestConfig())
        seconds["ingest"], begun = clock() - begun, clock()
        table = build_features(ingested.bars)
        seconds["features"] = clock() - begun
    return {"seconds": seconds, "peak_mb": peak.mb, "rows": len(raw), "bars": len(table)}


def run_case(path: str, sessions: int | None = None) -> dict[str, Any]:
    """`make` where sessions are given, `build` otherwise; each in a process of its own."""
    return build(path) if sessions is None else make(sessions, path)


def measure() -> Iterator[Row]:
    """Time by stage; the ratio is the stage's share of the minute that is allowed, memory that of 4 GB."""
    sessions = 380 if quick() else SESSIONS
    allowed = 60.0 * sessions / SESSIONS
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(os.environ.get("NQCAST_BENCH_FOLDER", folder)) / f"minutes_{sessions}_from_{START}.parquet")
        if not Path(path).exists():
            in_own_process("benchmarks.fifteen_years", {"path": path, "sessions": sessions})
        found = in_own_process("benchmarks.fifteen_years", {"path": path})
    total, millions = sum(found["seconds"].values()), found["rows"] / 1e6
    for name, seconds in found["seconds"].items():
        yield Row(f"{millions:.2f} million minutes: {name}", seconds, "s", seconds / total, "of the whole")
    note = f"{found['bars']:,} five-minute bars; allowed {allowed:.0f} s and 4,096 MB"
    yield Row(
        f"{millions:.2f} million minutes", total, "s", total / allowed, "of the time allowed", found["peak_mb"], note
    )


if __name__ == "__main__":
    main(measure)

"""The benchmarks run, put every figure beside another one of the same run, and say what is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.__main__ import THINGS
from benchmarks.measuring import Row, render
from tests.kedro_command import PROJECT


def run(out: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "NQCAST_BENCH_SECONDS": "0.01", "OMP_NUM_THREADS": "1", **variables}
    command = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(out), "--hardware", "x", "--date", "y"]
    return subprocess.run(
        [*command, *arguments], cwd=PROJECT, env=environment, capture_output=True, text=True, timeout=280, check=False
    )


@pytest.mark.slow
def test_the_table_and_the_files_hold_the_same_figures_each_with_a_ratio(tmp_path: Path) -> None:
    done = run(tmp_path, "--only", "windows,checkpoint")
    assert done.returncode == 0, done.stdout + done.stderr
    for thing in ("windows", "checkpoint"):
        found = json.loads((tmp_path / f"{thing}_x_y.json").read_text())
        assert found["rows"] and all(row["ratio"] > 0 and row["of"] for row in found["rows"])
        assert all(row["case"] in done.stdout for row in found["rows"])


@pytest.mark.slow
def test_a_missing_peer_is_said_in_the_table_and_is_no_error(tmp_path: Path) -> None:
    nothing = tmp_path / "python"
    nothing.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'pytorch_forecasting'\" >&2\nexit 1\n")
    nothing.chmod(0o755)
    done = run(tmp_path, "--only", "peers", NQCAST_PEERS_PYTHON=str(nothing))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing: ModuleNotFoundError: No module named 'pytorch_forecasting'" in done.stdout


def test_every_thing_is_a_file_that_can_be_run_alone_and_others_are_refused() -> None:
    for thing in THINGS:
        source = (PROJECT / "benchmarks" / f"{thing}.py").read_text()
        assert "def measure() -> Iterator[Row]:" in source and "main(measure)" in source, thing
    done = run(Path("unused"), "--only", "speed")
    assert done.returncode == 2 and "found speed" in done.stderr


def test_the_peak_is_that_of_the_block_alone() -> None:
    """In a process of its own: blocks that another test has freed would be taken again and not be seen."""
    code = (
        "from benchmarks.measuring import PeakMemory\n"
        "with PeakMemory() as first: bytearray(64 << 20)\n"
        "with PeakMemory() as second: bytearray(1 << 20)\n"
        "print(first.mb, second.mb)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    first, second = map(float, done.stdout.split())
    assert first == pytest.approx(64, abs=8)
    assert second < 16


def test_a_row_shows_value_unit_ratio_and_what_it_is_a_ratio_to() -> None:
    text = render("loop", [Row("Trainer", 1234.5, "windows/s", 3.5, "the DataLoader loop", 410.0, "+1.2 %")])
    for part in ("loop", "Trainer", "1,234", "windows/s", "3.5 ×", "the DataLoader loop", "410 MB", "+1.2 %"):
        assert part in text

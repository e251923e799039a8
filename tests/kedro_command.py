"""Runs the real `kedro` command of this environment with a data folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KEDRO = Path(sys.executable).with_name("kedro")


def environment(data: Path, local: str = "base") -> dict[str, str]:
    """The variables of a run that writes into `data` alone, and reads none of a developer's own files in conf/local."""
    variables = {**os.environ, "NQCAST_DATA": str(data), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    variables["NQCAST_LOCAL"] = local
    variables["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    variables.pop("MLFLOW_TRACKING_URI", None)
    return variables


def kedro(
    *arguments: str, data: Path, cwd: Path = PROJECT, timeout: int = 300, local: str = "base"
) -> subprocess.CompletedProcess[str]:
    """Run to the end and return what it printed."""
    return subprocess.run(
        [KEDRO, *arguments],
        cwd=cwd,
        env=environment(data, local),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def output_of(done: subprocess.CompletedProcess[str], fails: bool = False) -> str:
    """Everything printed, with white space folded; the command must have ended well, or badly where `fails`."""
    text = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode != 0) == fails, text[-6000:]
    return text


def newest(folder: Path) -> Path:
    """The newest version of a versioned entry."""
    return sorted(p for p in folder.iterdir() if p.is_dir())[-1]

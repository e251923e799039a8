"""Runs the real `kedro` command of this environment with a data folder of its own."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import subprocess
import sys
import tempfile
from functools import cache
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
KEDRO = Path(sys.executable).with_name("kedro")

# What every run imports and nobody here wrote is half of a toy run's seconds: loaded once, each run is forked from it.
LOADED_ONCE = [
    *("kedro.framework.cli.project", "kedro.framework.session", "kedro_viz.integrations.kedro.hooks"),
    *("kedro_datasets.pandas.parquet_dataset", "kedro_datasets.matplotlib.matplotlib_dataset", "plotly.graph_objects"),
    *("pandas", "pandas_market_calendars", "pandera.pandas", "pandera.strategies.pandas_strategies", "pyarrow.dataset"),
    *("scipy.stats", "scipy.signal", "torch._dynamo", "safetensors.torch", "mlflow", "cryptography.fernet"),
    *("mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store"),
    *("alembic.context", "alembic.command", "sqlalchemy.dialects.sqlite"),
]


def environment(data: Path | str, local: str = "base", columns: int = 200) -> dict[str, str]:
    """The variables of a run that writes into `data` alone, and reads none of a developer's own files in conf/local."""
    variables = {**os.environ, "NQCAST_DATA": str(data), "OMP_NUM_THREADS": "1", "COLUMNS": str(columns)}
    variables["NQCAST_LOCAL"] = local
    variables["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] = "false"
    variables.pop("MLFLOW_TRACKING_URI", None)
    return variables


def kedro(
    *arguments: str, data: Path | str, cwd: Path = PROJECT, timeout: int = 300, local: str = "base", columns: int = 200
) -> subprocess.CompletedProcess[str]:
    """Run `kedro` in a process of its own to the end, and return what it printed."""
    with tempfile.TemporaryDirectory() as folder:
        printed = Path(folder, "out"), Path(folder, "err")
        command = [str(KEDRO), *arguments]
        process = start_kedro(command, environment(data, local, columns), printed, cwd)
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired(command, timeout, *(path.read_bytes() for path in printed))
        return subprocess.CompletedProcess(command, process.exitcode, *(path.read_text() for path in printed))


def start_kedro(
    command: list[str], variables: dict[str, str], printed: tuple[Path, Path], cwd: Path = PROJECT, held: str = ""
) -> ForkServerProcess:
    """Begin `kedro` in a process of its own that prints into two files, or pipes that have a name.

    `held` names a place of training in which it waits (`tests.faults.slowed_kedro`).
    """
    process = _loaded().Process(target=_kedro, args=(command, cwd, variables, printed, held))
    process.start()
    return process


@cache
def _loaded() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LOADED_ONCE)
    return context


def _kedro(command: list[str], cwd: Path, variables: dict[str, str], printed: tuple[Path, Path], held: str) -> None:
    """The forked process becomes the command: its arguments, folder, variables and outputs are those of a shell's."""
    for number, path in enumerate(printed, start=1):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115, for the life of the process
    sys.stderr = open(2, "w", buffering=1, closefd=False, errors="backslashreplace")  # noqa: SIM115
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = command
    from kedro.framework.cli import main

    if held:
        from tests.faults.slowed_kedro import hold

        hold(held)
    try:
        main()
    except Exception:
        sys.excepthook(*sys.exc_info())
        sys.exit(1)
    finally:
        atexit._run_exitfuncs()  # a forked process of multiprocessing would leave without them


def output_of(done: subprocess.CompletedProcess[str], fails: bool = False) -> str:
    """Everything printed, with white space folded; the command must have ended well, or badly where `fails`."""
    text = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode != 0) == fails, text[-6000:]
    return text


def newest(folder: Path) -> Path:
    """The newest version of a versioned entry."""
    return sorted(p for p in folder.iterdir() if p.is_dir())[-1]

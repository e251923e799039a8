"""Pages that are followed word for word, in order, by a shell in a copy of the project."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.docs.code_blocks import Block, blocks_of
from tests.docs.command_table import PYTHON_AFTER_THE_TUTORIAL, RUN_HERE
from tests.kedro_command import PROJECT, environment
from tests.test_tools import free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # a minute in all; more on a machine with other work


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as a clone would hold it, with the environment of this run as its own."""
    folder = tmp_path_factory.mktemp("clone") / "nqcast"
    for name in ("src", "conf", "requirements"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "local"))
    for name in ("pyproject.toml", "Makefile", ".telemetry"):
        shutil.copy2(PROJECT / name, folder / name)
    (folder / "conf" / "local").mkdir()
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


def at_home(copy: Path) -> dict[str, str]:
    """The variables of a shell in the copy: its own source and data, the programs of the environment."""
    variables = environment(copy / "data") | {"PYTHONPATH": str(copy / "src"), "MPLBACKEND": "Agg"}
    variables["PATH"] = f"{copy / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    variables["NQCAST_DATA"] = "data"  # where the default run writes; the toy one, which stands for it, would not
    return variables


def walked(page: str, copy: Path) -> str:
    """What a shell prints that is given the blocks of the page in order."""
    script = "\n".join(as_script(block) for block in blocks_of(PROJECT / page) if block.excuse is None)
    with subprocess.Popen(
        ["bash", "-euc", script], cwd=copy, env=at_home(copy), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    ) as shell:  # fmt: skip
        try:
            said = shell.communicate(timeout=800)[0]
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)  # nothing of an unfinished page goes on
    assert shell.returncode == 0, said[-4000:]
    return said


def as_script(block: Block) -> str:
    """The block as lines of a shell script; yaml goes to the file that the text before it names."""
    if block.language == "python":
        return f"python - <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK"
    if block.language == "yaml":
        above = "\n".join((PROJECT / block.page).read_text().splitlines()[: block.line - 1])
        file = re.findall(r"`(conf/\S+\.yml)`", above)[-1]
        return f"cat > {file} <<'END_OF_BLOCK'\n{block.text}\nEND_OF_BLOCK"
    table = RUN_HERE[block.page]
    return "\n".join(table[command] or command for command in block.commands if command in table)


@pytest.fixture(scope="module")
def own_bars(copy: Path) -> str:
    return walked("docs/own_bars.md", copy)


@pytest.fixture(scope="module")
def tutorial(copy: Path) -> str:
    return walked("docs/tutorial.md", copy)


def test_the_page_of_own_bars_reads_the_file_that_it_makes(own_bars: str, copy: Path) -> None:
    assert "60 sessions" in own_bars
    for name in (
        "08_reporting/data_report.json",
        "02_intermediate/quarantine.parquet",
        "02_intermediate/roll_ledger.json",
    ):
        assert (copy / "data" / "nq" / name).is_file() and f"data/nq/{name}" in (
            PROJECT / "docs" / "own_bars.md"
        ).read_text()


def test_the_tutorial_ends_in_a_report_a_forecast_and_a_tracked_run(tutorial: str, copy: Path) -> None:
    assert "skill over constants" in tutorial.lower() and "price_quantile" in tutorial
    for name in re.findall(r"`(data/[\w./]+\.html)`", (PROJECT / "docs" / "tutorial.md").read_text()):
        assert (copy / name).is_file(), name
    port = free_port()
    command = ["make", "-o", ".venv/.installed", "mlflow", f"ARGS=--port {port} --workers 1"]
    with subprocess.Popen(
        command, cwd=copy, env=at_home(copy), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    ) as server:  # fmt: skip
        try:
            page = answered(f"http://127.0.0.1:{port}/", server)
        finally:
            os.killpg(server.pid, signal.SIGKILL)  # a group of its own: nothing to be asked, nothing to be lost
            server.communicate(timeout=30)
    assert "<title>MLflow" in page


def answered(url: str, server: subprocess.Popen[str]) -> str:
    """The page at `url`, once the server answers."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        assert server.poll() is None, server.communicate()
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return answer.read().decode()
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    raise AssertionError(f"{url} did not answer within five minutes")


@pytest.mark.usefixtures("own_bars", "tutorial")
def test_the_other_blocks_of_python_run_on_what_the_tutorial_left(copy: Path) -> None:
    blocks = [b for page in PYTHON_AFTER_THE_TUTORIAL for b in blocks_of(PROJECT / page) if b.language == "python"]
    texts = (block.text for block in blocks if not block.excuse)
    code = "\n".join(["import pandas", "bars = pandas.read_csv('my_bars.csv')", *texts])
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=copy,
        env=at_home(copy),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_page_of_gpus_asks_torch(copy: Path) -> None:
    assert walked("docs/gpu.md", copy).split()[1] in ("True", "False")


def test_the_page_of_another_instrument_makes_an_environment_that_runs(copy: Path) -> None:
    output = walked("docs/another_instrument.md", copy)
    assert "ESH6 to ESM6" in output and "doubt" not in output
    assert (copy / "data" / "es" / "04_feature" / "features.parquet").is_dir()
    assert not (copy / "conf" / "es" / "globals.yml.bak").exists()

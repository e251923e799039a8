"""How long `kedro` takes to answer: the registry, and a run in which nothing is to be done."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.measuring import ROOT, Row, main, seconds_per_call

KEDRO = str(Path(sys.executable).with_name("kedro"))


def measure() -> Iterator[Row]:
    """Wall time, as ratios to an empty Python and to importing Kedro's command line."""
    with tempfile.TemporaryDirectory() as data:
        python = _seconds([sys.executable, "-c", "pass"], data)
        imported = _seconds([sys.executable, "-c", "import kedro.framework.cli.cli, kedro.framework.session"], data)
        registry = _seconds([KEDRO, "registry", "list"], data)
        chosen = ["run", "--env", "test", "--pipelines", "ingest,features"]
        _seconds([KEDRO, *chosen], data, least=1)
        nothing = _seconds([KEDRO, *chosen, "--only-missing-outputs"], data)
    yield Row("python -c pass", python, "s", 1.0, "itself")
    yield Row("import of Kedro's command line", imported, "s", imported / python, "of an empty Python")
    yield Row("kedro registry list", registry, "s", registry / imported, "of importing Kedro")
    yield Row("kedro run with nothing to do", nothing, "s", nothing / registry, "of kedro registry list")


def _seconds(command: list[str], data: str, least: int = 2) -> float:
    environment = {**os.environ, "NQCAST_DATA": data}

    def run() -> None:
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)

    return seconds_per_call(run, least=least, warm=0 if least == 1 else 1)


if __name__ == "__main__":
    main(measure)

"""The whole default run by node, inputs and outputs included: `kedro run`, or its toy environment in a quick run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measuring import ROOT, Row, main, quick
from kedro.framework.hooks import hook_impl

SCRIPT = "from benchmarks.default_run import run; import sys; run(sys.argv[1], sys.argv[2])"


class Stopwatch:
    """From a node's first load to its last save."""

    def __init__(self) -> None:
        self.span: dict[str, tuple[float, float]] = {}

    @hook_impl(tryfirst=True)
    def before_dataset_loaded(self, node: Any) -> None:
        self._touch(node)

    @hook_impl(tryfirst=True)
    def before_node_run(self, node: Any) -> None:
        self._touch(node)

    @hook_impl(trylast=True)
    def after_node_run(self, node: Any) -> None:
        self._touch(node)

    @hook_impl(trylast=True)
    def after_dataset_saved(self, node: Any) -> None:
        self._touch(node)

    def _touch(self, node: Any) -> None:
        now = time.perf_counter()
        self.span[node.name] = (self.span.get(node.name, (now, now))[0], now)


def run(env: str, path: str) -> None:
    """Run the default pipeline in this process; seconds by node go to `path`."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(ROOT)
    watch = Stopwatch()
    with KedroSession.create(project_path=ROOT, env=env) as session:
        session._hook_manager.register(watch)
        session.run()
    Path(path).write_text(json.dumps({name: end - start for name, (start, end) in watch.span.items()}))


def measure() -> Iterator[Row]:
    """Seconds by node, each a share of the command's wall time."""
    env = "test" if quick() else "local"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "nodes.json"
        environment = {**os.environ, "NQCAST_DATA": str(Path(folder) / "data")}
        begun = time.perf_counter()
        command = [sys.executable, "-c", SCRIPT, env, str(path)]
        subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)
        whole = time.perf_counter() - begun
        nodes = json.loads(path.read_text())
    yield Row(f"kedro run ({'toy' if quick() else 'default'}), everything", whole, "s", 1.0, "itself")
    for name, seconds in nodes.items():
        yield Row(name, seconds, "s", seconds / whole, "of the whole run")
    rest = whole - sum(nodes.values())
    yield Row("start, hooks and tracking", rest, "s", rest / whole, "of the whole run")


if __name__ == "__main__":
    main(measure)

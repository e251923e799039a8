"""A real MLflow server on loopback, and a small Kedro run under the tracking hook."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


class Server:
    """`mlflow server` with a SQLite store of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"

    def start(self) -> Server:
        quiet = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--backend-store-uri", f"sqlite:///{self._folder / 'server.db'}", "--workers", "1"),
            *("--artifacts-destination", str(self._folder / "artifacts")),
        ]
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **quiet, "PYTHONWARNINGS": "ignore"},
                cwd=self._folder,
            )
        deadline = time.monotonic() + 120
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                pytest.fail(f"mlflow server did not start:\n{(self._folder / 'server.log').read_text()[-2000:]}")
            time.sleep(0.1)
        return self

    def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own session: this server and its workers only
        self._process.wait()

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


class Line:
    """A TCP line to a server that can be cut, as when the server dies, and mended."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.mend()

    def mend(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._run(self._accept, self._listener)

    def cut(self) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._ends.clear()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self._server_port))
            self._ends += [near, far]
            self._run(self._pump, near, far)
            self._run(self._pump, far, near)

    def _pump(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def _run(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server, one for all tests: starting it takes seconds."""
    running = Server(tmp_path_factory.mktemp("mlflow")).start()
    yield running
    running.stop()


@pytest.fixture
def line(server: Server) -> Iterator[Line]:
    """A way to the server that a test may cut."""
    mine = Line(server.port)
    yield mine
    mine.cut()


@pytest.fixture
def black_hole() -> Iterator[str]:
    """The URI of a server that accepts and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(128)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def _locks_are_given_back(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A spool that nobody could send stays locked while its process lives."""
    from nqcast.tracking.spool import Spool

    made: list[Spool] = []
    create = Spool.create
    monkeypatch.setattr(Spool, "create", lambda root, name: made.append(create(root, name)) or made[-1])
    yield
    for spool in made:
        with contextlib.suppress(ValueError):  # its own thread has just given it back
            spool.unlock()


class Context:
    """What the hook takes from Kedro's context."""

    def __init__(self, project_path: Path, params: dict[str, Any]) -> None:
        self.project_path = project_path
        self.params = params
        self.config_loader = {"globals": {"data": "data"}}


@pytest.fixture
def tracked_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """tracked_run(uri, train, params) runs train(run_directory) as a Kedro pipeline under the hook."""
    import yaml
    from kedro.framework.hooks.manager import _create_hook_manager
    from kedro.io import DataCatalog
    from kedro.pipeline import node, pipeline
    from kedro.runner import SequentialRunner

    from nqcast.tracking.hook import TrackingHook

    project = tmp_path / "a projéct"
    project.mkdir()
    monkeypatch.delenv("NQCAST_DATA", raising=False)
    entries = f"""
    run_directory: {{type: nqcast.datasets.RunDirectoryDataset, filepath: "{project}/runs", min_free_gb: 0}}
    scores:
      type: nqcast.datasets.VerifiedDataset
      dataset: json.JSONDataset
      filepath: "{project}/scores.json"
      versioned: true
      metadata: {{nqcast: {{mlflow: [metrics, artifact]}}}}
    """

    def run(
        uri: str | None,
        train: Callable[[Path], dict],
        params: dict[str, Any] | None = None,
    ) -> Path:
        for name in ("MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"):
            monkeypatch.delenv(name, raising=False)
        if uri is None:
            monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
        else:
            monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        hook = TrackingHook()
        hook.after_context_created(Context(project, params or {}))
        manager = _create_hook_manager()
        manager.register(hook)
        catalog = DataCatalog.from_config(yaml.safe_load(entries))
        read = [f"params:{name}" for name in params or {} if name not in ("tracking", "unread")]
        for name in read:
            catalog[name] = (params or {})[name.removeprefix("params:")]

        def step(root: Path, *_: Any) -> dict:
            return train(root)

        steps = pipeline([node(step, ["run_directory", *read], "scores")])
        facts = {"run_params": {"run_id": "2026-01-01T00.00.00.000Z", "pipeline_names": ["train"]}, "catalog": catalog}
        manager.hook.before_pipeline_run(pipeline=steps, **facts)
        try:
            result = SequentialRunner().run(steps, catalog, hook_manager=manager)
        except Exception as error:
            manager.hook.on_pipeline_error(error=error, pipeline=steps, **facts)
            raise
        manager.hook.after_pipeline_run(run_result=result, pipeline=steps, **facts)
        return project / "data" / "09_tracking"

    return run

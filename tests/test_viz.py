"""The pipelines in a browser: served by `kedro viz run`, and as the static pages of `make viz-build`."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.kedro_command import KEDRO, PROJECT, environment, kedro, output_of
from tests.test_tools import free_port, get_json

from nqcast.pipeline_registry import register_pipelines

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def data(toy_features: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with bars and features in it."""
    return shutil.copytree(toy_features, tmp_path_factory.mktemp("viz") / "viz data")


@pytest.fixture(scope="module")
def built(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The static pages, built from a copy of the project, since kedro-viz writes into it."""
    copy = tmp_path_factory.mktemp("project")
    for name in ("src", "conf"):
        shutil.copytree(PROJECT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, copy / name)
    output_of(kedro("viz", "build", "--include-previews", data=data, cwd=copy))
    return copy / "build"


@pytest.fixture(scope="module")
def served(data: Path) -> Iterator[str]:
    """The address of `kedro viz run`."""
    port = free_port()
    process = subprocess.Popen(
        [KEDRO, "viz", "run", "--no-browser", "--env", "test", "--host", "127.0.0.1", "--port", str(port)],
        cwd=PROJECT, env=environment(data), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        get_json(f"http://127.0.0.1:{port}/api/main", process)
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, signal.SIGKILL)  # its own session; asked to end, it waits for the browser's connections
        process.communicate(timeout=30)


def opened(url: str, profile: Path) -> str:
    """The page as a headless browser ends up with it; no error on its console."""
    if BROWSER is None:
        pytest.skip("no Chromium: install it (apt-get install chromium) to open the page in a browser")
    command = [
        *(BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *(f"--user-data-dir={profile}", "--window-size=1600,1200", "--enable-logging=stderr"),
        *("--virtual-time-budget=20000", "--dump-dom", url),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    errors = [line for line in done.stderr.splitlines() if ":ERROR:CONSOLE" in line]
    assert errors == []
    return done.stdout


def test_the_page_opens_in_a_browser_and_names_pipelines_nodes_and_layers(served: str, tmp_path: Path) -> None:
    page = opened(f"{served}?pid=__default__", tmp_path)
    titles = set(re.findall(r'title="([\w]+)"', page))
    assert set(register_pipelines()) <= titles
    drawn = set(re.findall(r"pipeline-node__text[^>]*>([\w]+)<", page))
    assert {"check_rows", "place_in_sessions", "join_contracts", "reject_suspects", "make_bars"} <= drawn
    assert {"make_features", "train_model", "score", "checkpoint", "features"} <= drawn
    layers = set(re.findall(r"pipeline-layer-name[^>]*>([\w]+)<", page))
    assert {"raw", "intermediate", "feature", "model_input", "models", "model_output", "reporting"} <= layers


def test_the_forecast_can_be_looked_at_on_its_own(served: str, tmp_path: Path) -> None:
    page = opened(f"{served}?pid=forecast", tmp_path)
    drawn = set(re.findall(r"pipeline-node__text[^>]*>([\w]+)<", page))
    assert {"make_forecast", "calibration", "forecast_page"} <= drawn
    assert "train_model" not in drawn


def test_the_static_pages_open_in_a_browser_without_kedro(built: Path, tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(built))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = opened(f"http://127.0.0.1:{server.server_port}/?pid=__default__", tmp_path)
        server.shutdown()
    assert "train_model" in set(re.findall(r"pipeline-node__text[^>]*>([\w]+)<", page))


def test_every_dataset_has_a_layer_and_those_that_are_there_a_preview(built: Path) -> None:
    for name in ("__default__", "ingest", "features", "train", "evaluate", "forecast"):
        for node in json.loads((built / "api" / "pipelines" / name).read_text())["nodes"]:
            if node["type"] != "data":
                continue
            assert node["layer"], node["name"]
            shown = json.loads((built / "api" / "nodes" / node["id"]).read_text())
            if node["name"] in ("bars", "features", "quarantine"):
                assert shown["preview_type"] == "TablePreview", node["name"]
            if node["name"] in ("data_report", "roll_ledger"):
                assert shown["preview_type"] == "JSONPreview", node["name"]


def test_make_has_the_target_that_builds_them() -> None:
    rules = (PROJECT / "Makefile").read_text()
    assert re.search(r"^viz-build:.*\n\t\$\(BIN\)/kedro viz build --include-previews", rules, re.MULTILINE)

"""What people type beside `kedro run`: registry, viz, server, package."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import yaml
from tests.kedro_command import KEDRO, PROJECT, environment, kedro, output_of

from nqcast.pipeline_registry import register_pipelines


def free_port() -> int:
    """A free port below 49152: kedro-viz takes none above."""
    for port in random.Random().sample(range(20_000, 49_000), 50):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port among 50")


def get_json(url: str, process: subprocess.Popen[str], seconds: float = 120) -> dict[str, object]:
    """What `url` answers, once it does; fails when the process ends first."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.3)
    raise AssertionError(f"{url} did not answer within {seconds} s")


def test_the_registry_names_every_pipeline(tmp_path: Path) -> None:
    text = output_of(kedro("registry", "list", data=tmp_path))
    for name in register_pipelines():
        assert f"- {name}" in text


def test_no_layer_depends_on_a_later_one() -> None:
    """A step back makes kedro-viz draw no layers at all."""
    order = ("raw", "intermediate", "feature", "model_input", "models", "model_output", "reporting")
    entries = {}
    for path in (PROJECT / "conf" / "base").glob("catalog_*.yml"):
        entries |= yaml.safe_load(path.read_text())
    named = {name: entry["metadata"]["kedro-viz"]["layer"] for name, entry in entries.items() if "metadata" in entry}
    layer = {name: order.index(text) for name, text in named.items()}
    backwards = [
        (node.name, before, after)
        for pipeline in register_pipelines().values()
        for node in pipeline.nodes
        for before, after in itertools.product(node.inputs, node.outputs)
        if layer.get(before, 0) > layer.get(after, len(order))
    ]
    assert backwards == []


@pytest.mark.slow
@pytest.mark.parametrize("env", ["base", "nq"])
def test_viz_shows_the_pipelines_before_anything_has_run(env: str, tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [KEDRO, "viz", "run", "--no-browser", "--env", env, "--host", "127.0.0.1", "--port", str(port)],
        cwd=PROJECT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,  # the command starts a server of its own: both end with the group
    )  # fmt: skip
    try:
        main = get_json(f"http://127.0.0.1:{port}/api/main", process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=30)
    assert {p["id"] for p in main["pipelines"]} >= {"__default__", "ingest", "features", "train", "evaluate"}
    layers = {node.get("layer") for node in main["nodes"] if node["type"] == "data"}
    assert {"raw", "intermediate", "feature", "model_input", "models", "model_output", "reporting"} <= layers


@pytest.mark.slow
def test_a_server_on_loopback_runs_a_pipeline_and_answers_when_it_has_ended(tmp_path: Path) -> None:
    port = free_port()
    process = subprocess.Popen(
        [KEDRO, "server", "start", "--env", "test", "--port", str(port)],
        cwd=PROJECT, env=environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert get_json(f"http://127.0.0.1:{port}/health", process)["status"] == "healthy"
        wanted = {"pipeline_names": ["ingest"], "params": {"tracking": {"enabled": False}}}
        asked = urllib.request.Request(
            f"http://127.0.0.1:{port}/run", json.dumps(wanted).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=200) as answer:
            assert json.load(answer)["status"] == "success"
        with socket.socket() as elsewhere:  # the port of every other address stays free
            elsewhere.bind(("127.0.0.2", port))
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=30)
    assert list((tmp_path / "02_intermediate").rglob("bars.parquet"))


@pytest.mark.slow
def test_the_packaged_wheel_runs_outside_the_checkout(tmp_path: Path) -> None:
    copy = tmp_path / "checkout"
    tracked = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in tracked.splitlines():
        if name.startswith(("src/", "conf/")) or name in ("pyproject.toml", "README.md", "LICENSE", ".telemetry"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            (copy / name).write_bytes((PROJECT / name).read_bytes())
    output_of(kedro("package", data=tmp_path, cwd=copy))
    wheel = next((copy / "dist").glob("*.whl"))
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True, timeout=120)
    conf = next((copy / "dist").glob("conf*.tar.gz"))
    done = subprocess.run(
        [sys.executable, "-m", "nqcast", "--conf-source", str(conf), "--env", "test", "--pipelines", "ingest,features"],
        cwd=elsewhere, env={**environment(tmp_path / "data"), "PYTHONPATH": str(site)},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    output_of(done)
    assert list((tmp_path / "data" / "04_feature").rglob("features.parquet"))

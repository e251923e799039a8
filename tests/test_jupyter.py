"""`kedro jupyter lab` as people open it: on loopback, in a browser, with a kernel that has the catalog ready."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import websocket
from tests.kedro_command import KEDRO, PROJECT, environment
from tests.test_tools import free_port, get_json
from tests.test_viz import opened

TOKEN = "known-to-the-test"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of `kedro jupyter lab` on loopback; what Jupyter writes stays in a folder of its own."""
    folder, port = tmp_path_factory.mktemp("jupyter"), free_port()
    homes = ("JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR", "IPYTHONDIR")
    command = [KEDRO, "jupyter", "lab", "--env", "test", "--no-browser", "--ip", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--allow-root", f"--IdentityProvider.token={TOKEN}"],
        cwd=PROJECT, env={**environment(folder / "data"), **{home: str(folder / home) for home in homes}},
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True,
        start_new_session=True,  # the command starts the server, that the kernels: all end with the group
    )  # fmt: skip
    try:
        get_json(f"http://127.0.0.1:{port}/api/status?token={TOKEN}", process)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=60)


def asked_of_a_kernel(lab: str, code: str) -> str:
    """What a kernel of the server's default kind answers to `code`, as a notebook in notebooks/ would ask it."""
    with urllib.request.urlopen(f"http://{lab}/api/kernelspecs?token={TOKEN}", timeout=30) as answer:
        kind = json.load(answer)["default"]
    wanted = {"path": "notebooks/new.ipynb", "name": "new", "type": "notebook", "kernel": {"name": kind}}
    headers = {"Authorization": f"token {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(f"http://{lab}/api/sessions", json.dumps(wanted).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        kernel = json.load(answer)["kernel"]["id"]
    address = f"ws://{lab}/api/kernels/{kernel}/channels?token={TOKEN}"
    header = {"msg_id": "asked", "username": "", "session": "test", "msg_type": "execute_request", "version": "5.3"}
    rest = {"parent_header": {}, "metadata": {}, "content": {"code": code, "silent": False}, "channel": "shell"}
    with contextlib.closing(websocket.create_connection(address, timeout=120)) as channels:
        channels.send(json.dumps({"header": header, **rest}))
        return _text_until_idle(channels)


def _text_until_idle(channels: websocket.WebSocket) -> str:
    printed = ""
    while True:
        message = json.loads(channels.recv())
        content = message["content"]
        if message["parent_header"].get("msg_id") != "asked":
            continue
        assert message["msg_type"] != "error", content
        printed += content.get("text", "")
        if content.get("execution_state") == "idle":
            return printed


def test_a_kernel_of_kedro_jupyter_has_the_catalog_ready(lab: str) -> None:
    code = "print(sorted(catalog.filter()), sorted(pipelines), context.env, catalog.load('params:quantiles'))"
    printed = asked_of_a_kernel(lab, code)
    assert {"features", "checkpoint", "scores"} <= set(re.findall(r"'(\w+)'", printed))
    assert {"evaluate", "forecast"} <= set(re.findall(r"'(\w+)'", printed))
    assert " test [0.05, " in printed


def test_kedro_jupyter_lab_opens_in_a_browser_with_the_kernel_of_the_project(lab: str, tmp_path: Path) -> None:
    page = opened(f"http://{lab}/lab/tree/notebooks?token={TOKEN}&reset", tmp_path)
    assert 'title="Kedro (nqcast)"' in page and "01_data.ipynb" in page

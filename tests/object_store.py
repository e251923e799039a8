"""A real S3 server on loopback, SeaweedFS, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_REGION": "us-east-1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The variables by which a client reaches a server that makes its buckets when they are first written to."""
    folder = tmp_path_factory.mktemp("seaweed")
    credentials = [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}]
    identity = {"name": "tests", "credentials": credentials, "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    names = [f"{part}.port{grpc}" for part in ("master", "volume", "filer", "s3") for grpc in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    options = {
        "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "dir": folder, "master.telemetry": "false", "volume.max": 8,
        "master.volumeSizeLimitMB": 64, "s3.config": folder / "s3.json", "s3.port.iceberg": 0, "s3.port.lance": 0,
        "filer.localSocket": folder / "filer.sock", "s3.localSocket": folder / "s3.sock", **ports,
    }  # fmt: skip
    command = [Path(sys.executable).with_name("weed"), "server", "-filer", "-s3"]
    variables = {**KEYS, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}"}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([*command, *(f"-{k}={v}" for k, v in options.items())], stderr=log, stdout=log)
    try:
        wait_for(variables, process, folder / "log")
        yield variables
    finally:
        process.kill()  # asked to end, it would wait half a minute for its own parts
        process.wait()


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on; all are held until the last is known."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(number)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def wait_for(variables: dict[str, str], process: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server has taken an object; its log is the assertion's text where it does not in 60 s."""
    from obstore.exceptions import BaseError
    from obstore.store import from_url

    options = {key.lower(): value for key, value in variables.items()}
    store = from_url("s3://bucket", **options, client_options={"allow_http": True}, retry_config={"max_retries": 0})  # type: ignore[arg-type]
    last, until = "", time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            store.put("up", b"1")
            return
        except BaseError as error:
            last = str(error)
            time.sleep(0.1)
    raise AssertionError(last + log.read_text()[-3000:])


@pytest.fixture
def bucket(server: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """The URL of a place of the test's own, with the variables that lead there."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.items():
        monkeypatch.setenv(name, value)
    return f"s3://bucket/donées [nq] 1/{abs(hash(request.node.name))}"

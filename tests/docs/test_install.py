"""What the pages on installing, containers and CI name is there, and agrees with the Makefile; no engine is needed."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from tests.docs.code_blocks import blocks_of
from tests.kedro_command import PROJECT

PAGE = PROJECT / "docs" / "install.md"
TORCH = re.findall(r"torch==(\S+)", (PROJECT / "Makefile").read_text())[0]
PROJECT_TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]


def instructions() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile, continuations joined."""
    text = (PROJECT / "docker" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, rest in lines]


def test_every_way_of_installing_takes_the_torch_and_the_lock_that_make_takes() -> None:
    blocks = [block.text for block in blocks_of(PAGE) if "pip install" in block.text]
    assert len(blocks) == 3
    for text in blocks:
        order = [text.index(part) for part in (f"torch=={TORCH}", "--require-hashes -r requirements/lock.txt", "-e .")]
        assert order == sorted(order)
    assert (PROJECT / "requirements" / "lock.txt").is_file()


def installed(tmp_path: Path, requirement: str) -> subprocess.CompletedProcess[str]:
    """What make's installer prints about `requirement`, twenty times a second; nothing is installed, no index asked."""
    script = (
        (PROJECT / "requirements" / "install.py").read_text().replace("EVERY_SECONDS = 10.0", "EVERY_SECONDS = 0.05")
    )
    (tmp_path / "install.py").write_text(script)
    options = ["--no-index", "--no-build-isolation", "--no-deps", "--dry-run"]
    command = [sys.executable, tmp_path / "install.py", *options, requirement]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_set_up_says_how_far_it_is_and_ends_as_pip_ends(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "nothing"\nversion = "1"\n[tool.setuptools]\npackages = []\n'
    )
    done = installed(tmp_path, str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert re.search(r" s: 1 packages found, now ", done.stdout)
    lost = installed(tmp_path, "nqcast-that-is-nowhere")
    assert lost.returncode != 0 and "nqcast-that-is-nowhere" in lost.stderr
    assert (PROJECT / "Makefile").read_text().count("/python requirements/install.py") == 2


def test_the_page_names_the_pythons_and_the_extras_that_there_are() -> None:
    text = PAGE.read_text()
    assert PROJECT_TABLE["requires-python"] == ">=3.11,<3.14" and "Python 3.11, 3.12 or 3.13" in text
    named = set(re.findall(r"`\[(\w+)\]`", text))
    assert named == set(PROJECT_TABLE["optional-dependencies"]) - {"peers"}


def test_the_image_is_made_of_files_that_are_there_and_not_shut_out() -> None:
    rules = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = {rule[1:] for rule in rules if rule.startswith("!")}
    assert rules[0] == "*" and "conf/local" in rules
    copied = [name for kind, rest in instructions() if kind == "COPY" for name in rest.split()[:-1]]
    assert {Path(name).parts[0] for name in copied} == kept
    for name in copied:
        assert (PROJECT / name).exists(), name


def test_the_image_installs_what_make_installs_and_runs_as_a_user_of_its_own() -> None:
    found = instructions()
    steps = " ".join(rest for kind, rest in found if kind == "RUN")
    order = [steps.index(part) for part in (f"torch=={TORCH}", "--require-hashes -r requirements/lock.txt", "-e .")]
    assert order == sorted(order)
    users = [i for i, (kind, rest) in enumerate(found) if kind == "USER" and rest != "root"]
    assert users and users[0] > max(i for i, (kind, _) in enumerate(found) if kind in ("RUN", "COPY"))
    assert ("ENTRYPOINT", '["kedro", "run"]') in found and ("VOLUME", "/data") in found
    assert re.fullmatch(r"docker\.io/library/python:\$\{PYTHON\}-slim-\w+", dict(found)["FROM"])
    version = re.fullmatch(r"PYTHON=(3\.\d+)", dict(reversed(found))["ARG"])
    assert version and f"{version[1]} or" in PAGE.read_text()


def test_the_variables_of_the_image_are_ones_that_the_project_reads() -> None:
    given = [rest for kind, rest in instructions() if kind == "ENV"]
    assert {"NQCAST_DATA=/data", "NQCAST_WORK=/data", "HOME=/data"} <= set(" ".join(given).split())
    assert "NQCAST_DATA" in (PROJECT / "conf" / "base" / "globals.yml").read_text()


def test_the_script_that_tries_the_image_says_what_it_lacks(tmp_path: Path) -> None:
    script = PROJECT / "docker" / "try.sh"
    assert os.access(script, os.X_OK)
    done = subprocess.run(
        [script],
        env={**os.environ, "ENGINE": "no-such-engine"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert done.returncode == 2 and "found no no-such-engine on the path" in done.stderr


def test_the_script_builds_runs_and_asks_for_the_report(tmp_path: Path) -> None:
    """A stand-in for the engine writes down what it is asked; no image is built here."""
    engine, log = tmp_path / "engine", tmp_path / "asked"
    engine.write_text(f'#!/bin/sh\necho "$@" >> {log}\ncase "$*" in *"id "*) echo nqcast;; esac\n')
    engine.chmod(0o755)
    variables = {**os.environ, "ENGINE": str(engine), "TORCH_INDEX": "somewhere"}
    done = subprocess.run(
        [PROJECT / "docker" / "try.sh"], env=variables, capture_output=True, text=True, timeout=20, check=False
    )
    assert done.returncode == 0, done.stderr
    asked = [shlex.split(line)[0] for line in log.read_text().splitlines()]
    assert asked == ["build", "volume", "run", "run", "run", "volume"]
    assert "--build-arg TORCH_INDEX=somewhere" in log.read_text() and "--env test" in log.read_text()


def test_the_dev_container_is_built_from_the_same_file() -> None:
    folder = PROJECT / ".devcontainer"
    config = json.loads((folder / "devcontainer.json").read_text())
    assert (folder / config["build"]["dockerfile"]).resolve() == PROJECT / "docker" / "Dockerfile"
    assert (folder / config["build"]["context"]).resolve() == PROJECT
    assert config["remoteUser"] == dict(reversed(instructions()))["USER"]
    assert config["containerEnv"]["HOME"] == f"/home/{config['remoteUser']}"  # the image's own is the volume of a run


@pytest.mark.parametrize("job", ["test", "docs", "image"])
def test_the_workflow_runs_what_is_there(job: str) -> None:
    text = (PROJECT / ".github" / "workflows" / "tests.yml").read_text()
    steps = yaml.safe_load(text)["jobs"][job]["steps"]
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE)
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    for command in commands:
        program, *rest = command.split()
        assert rest[0] in targets if program == "make" else (PROJECT / program).is_file(), command
    assert fnmatch.filter([step.get("uses", "") for step in steps], "actions/checkout@*")

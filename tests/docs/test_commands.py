"""Every command of the docs is run in the toy environment, is run by another test, or says above it why not.

A command that is new in a page fails `test_every_command_is_run_or_says_why_not` until it stands in `command_table.py`
or its block has a comment right above it: <!-- not run by the tests: needs a GPU -->
"""

from __future__ import annotations

import ast
import functools
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from tests.docs.code_blocks import (
    PROGRAMS,
    SHELL,
    all_blocks,
    looks_like_a_command,
    pages,
    shell_blocks,
    unfenced_lines,
)
from tests.docs.command_table import PYTHON_AFTER_THE_TUTORIAL, PYTHON_ELSEWHERE, RUN_ELSEWHERE, RUN_HERE
from tests.kedro_command import PROJECT

from nqcast.parameters import Parameters, check_parameters
from nqcast.pipeline_registry import register_pipelines


def test_every_command_is_run_or_says_why_not() -> None:
    open_ends = [
        f"{block.place}: {command}"
        for block in shell_blocks()
        if block.excuse is None
        for command in block.commands
        if command not in RUN_HERE.get(block.page, {}) and command not in RUN_ELSEWHERE
    ]
    assert open_ends == []


def test_every_block_of_python_is_run_or_says_why_not() -> None:
    known = {*RUN_HERE, *PYTHON_AFTER_THE_TUTORIAL, *PYTHON_ELSEWHERE}
    blocks = [block for block in all_blocks() if block.language == "python" and block.excuse is None]
    assert [block.place for block in blocks if block.page not in known] == []


def test_the_tests_that_are_named_exist_and_know_the_pipeline() -> None:
    for command, tests in [*RUN_ELSEWHERE.items(), *PYTHON_ELSEWHERE.items()]:
        sources = ""
        for file, _, function in (named.partition("::") for named in tests.split()):
            sources += (PROJECT / file).read_text()
            assert not function or function in functions_in(PROJECT / file), f"{command}: no {function} in {file}"
        pipelines = [name for names in re.findall(r"--pipelines (\S+)", command) for name in names.split(",")]
        assert [name for name in pipelines if name not in sources] == [], f"{tests} says nothing of it"


def test_the_tables_hold_nothing_that_no_page_says() -> None:
    said = {(block.page, command) for block in shell_blocks() for command in block.commands}
    anywhere = {command for _, command in said}
    assert [command for command in RUN_ELSEWHERE if command not in anywhere] == []
    here = [(page, command) for page, commands in RUN_HERE.items() for command in commands]
    assert [pair for pair in here if pair not in said] == []


def test_no_command_hides_in_a_block_without_a_language_or_outside_of_blocks() -> None:
    hidden = [
        f"{block.place}: {line}"
        for block in all_blocks()
        if block.language not in (*SHELL, "python")
        for line in block.text.splitlines()
        if looks_like_a_command(line)
    ]
    for path in pages():
        hidden += [
            f"{path.name}:{number}: {line}"
            for number, line in unfenced_lines(path)
            if line.startswith("    ") and looks_like_a_command(line)
        ]
    assert hidden == []


def inline_commands() -> Iterator[tuple[str, str]]:
    """Page and text of `code` in running text that is a command."""
    for path in pages():
        text = "\n".join(line for _, line in unfenced_lines(path))
        for code in re.findall(r"`([^`]+)`", text):
            folded = " ".join(code.split())
            if looks_like_a_command(folded):
                yield path.relative_to(PROJECT).as_posix(), folded


def every_command() -> list[tuple[str, str]]:
    """Page and command, of blocks and of running text."""
    return [(block.page, command) for block in shell_blocks() for command in block.commands] + [*inline_commands()]


@functools.cache
def functions_in(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text())
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


@functools.cache
def make_targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def unknown_parts(command: str) -> list[str]:
    """What a `make` or `kedro run` names that is not there: targets, pipelines, nodes, options, parameters."""
    words = shlex.split(command)
    while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
        words.pop(0)
    if words[0] == "make":
        return [word for word in words[1:] if "=" not in word and word.isalpha() and word not in make_targets()]
    if words[:2] != ["kedro", "run"]:
        return []
    from kedro.framework.cli.project import project_group

    line = re.sub(r"--config( \S+)?", "", " ".join(words[2:]))  # a file that a run writes
    try:
        options = project_group.commands["run"].make_context("run", line.split()).params
    except click.UsageError as error:
        return [error.format_message()]
    if options["pipeline"]:
        return ["Kedro warns of --pipeline: write --pipelines"]
    unknown = [name for name in options["pipelines"] or () if name not in register_pipelines()]
    nodes = {node.name for pipeline in register_pipelines().values() for node in pipeline.nodes}
    unknown += [name for key in ("from_nodes", "to_nodes") for name in options[key] or () if name not in nodes]
    return unknown + unknown_parameters(options["params"] or {})


def unknown_parameters(given: dict[str, Any]) -> list[str]:
    """The complaint about parameters as the project itself makes it; words in capitals stand for any value."""
    told = yaml.safe_load(re.sub(r"': '?[A-Z]+'?(?=[,}])", "': null", str(given).replace("None", "null")))
    for name in [name for name, value in told.items() if value is None]:
        if name in Parameters.model_fields:
            told.pop(name)
    try:
        check_parameters(told)
    except ValueError as error:
        return [str(error)]
    return []


def test_what_a_command_names_is_there() -> None:
    found = {f"{page}: {command}": unknown_parts(command) for page, command in every_command() if "…" not in command}
    assert {command: unknown for command, unknown in found.items() if unknown} == {}


def test_no_file_says_pipeline_where_kedro_wants_pipelines() -> None:
    old = re.compile("--pipeline" + r"\b(?!s)")  # in two parts: this file is one of them
    listed = subprocess.run(["git", "ls-files"], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    files = [
        name for name in listed.splitlines() if name.endswith((".py", ".md", ".yml", ".ipynb", "Makefile", ".toml"))
    ]
    assert len(files) > 200
    said = [name for name in files if (PROJECT / name).is_file() and old.search((PROJECT / name).read_text())]
    assert [name for name in said if name != "tests/docs/test_commands.py"] == []


@pytest.mark.parametrize(
    "command",
    [
        "make dmeo",
        "kedro run --pipelines trian",
        "kedro run --pipeline train",
        "kedro run --from-nodes predict",
        "kedro run --params train.epoch=2",
        "kedro run --pipelin train",
        "kedro run --params train.epochs=0.5",
    ],
)
def test_a_command_that_names_what_is_not_there_is_seen(command: str) -> None:
    assert len(unknown_parts(command)) == 1


def test_programs_are_recognised_behind_a_variable_and_a_prompt() -> None:
    assert all(looks_like_a_command(f"{before}{name} x") for name in PROGRAMS for before in ("", "$ ", "A_B=1 "))
    assert not looks_like_a_command("makes sense") and not looks_like_a_command("Kedro run")

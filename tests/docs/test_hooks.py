"""The hooks of pre-commit: valid, of this environment alone, quiet on a clean tree and loud on a bad one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.kedro_command import PROJECT
from tests.text_files import complaints

PRE_COMMIT = Path(sys.executable).with_name("pre-commit")
CONFIG = PROJECT / ".pre-commit-config.yaml"


def in_tree(tree: Path, *command: str | Path, skip: str = "") -> subprocess.CompletedProcess[str]:
    """Run in the tree without network; hooks live in the tree, not in the user's cache."""
    variables = {
        **os.environ,
        "SKIP": skip,
        "PRE_COMMIT_HOME": str(tree.parent / "cache"),
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    variables |= {"https_proxy": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9"}
    return subprocess.run(command, cwd=tree, env=variables, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small repository with the project's hooks and environment."""
    folder = tmp_path / "tree"
    for name in (
        ".pre-commit-config.yaml",
        "pyproject.toml",
        "LICENSE",
        "tests/text_files.py",
        "src/nqcast/stopping.py",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    (folder / ".gitignore").write_text("/.venv\n.ruff_cache/\n")
    (folder / ".venv").symlink_to(sys.prefix)
    for command in (["git", "init", "-q"], ["git", "add", "-A"]):
        assert in_tree(folder, *command).returncode == 0
    return folder


def test_the_configuration_is_valid_and_downloads_nothing() -> None:
    done = in_tree(PROJECT, PRE_COMMIT, "validate-config", CONFIG)
    assert done.returncode == 0, done.stdout + done.stderr
    config = yaml.safe_load(CONFIG.read_text())
    assert [repo["repo"] for repo in config["repos"]] == ["local"]
    assert {hook["language"] for repo in config["repos"] for hook in repo["hooks"]} == {"system"}


@pytest.mark.slow
def test_the_hooks_pass_on_a_clean_tree_and_see_what_is_wrong(tree: Path) -> None:
    slow = "mypy,notebooks-without-outputs"  # whole-project hooks: `make lint` and the tests run them themselves
    done = in_tree(tree, PRE_COMMIT, "run", "--all-files", skip=slow)
    assert done.returncode == 0, done.stdout + done.stderr
    assert in_tree(tree, PRE_COMMIT, "install").returncode == 0
    bad = tree / "src" / "nqcast" / "stopping.py"
    bad.write_text(bad.read_text() + "import os \nx = eval('1')")
    assert in_tree(tree, "git", "add", "-A").returncode == 0
    done = in_tree(tree, PRE_COMMIT, "run", "--all-files", skip=slow)
    assert done.returncode == 1
    for complaint in ("F401", "S307", "would be reformatted", "blanks at the end", "one new line at the end"):
        assert complaint.lower() in (done.stdout + done.stderr).lower(), complaint


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a\n", None),
        (b"", None),
        (b"a", "one new line"),
        (b"a\n\n", "one new line"),
        (b"a \nb\n", "blanks"),
        (b"a\r\n", "carriage"),
        (b"<<<<<<< HEAD\na\n", "merge"),
        (b"a" * 1_000_001 + b"\n", "bytes"),
    ],
)
def test_text_files_keep_the_rules(content: bytes, complaint: str | None, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    found = complaints(path)
    assert len(found) == (complaint is not None)
    assert complaint is None or complaint in found[0]


def test_every_text_file_of_the_project_keeps_them() -> None:
    listed = in_tree(PROJECT, "git", "ls-files", "--eol").stdout.splitlines()
    text = [line.split("\t")[1] for line in listed if not line.startswith("i/-text") and "lock.txt" not in line]
    assert len(text) > 200
    assert [found for name in text if (PROJECT / name).is_file() for found in complaints(PROJECT / name)] == []

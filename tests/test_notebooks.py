"""Every notebook runs from top to bottom in a fresh kernel, within a minute, and is kept without its outputs."""

from __future__ import annotations

import re
import time
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from tests.kedro_command import PROJECT, environment

NOTEBOOKS = sorted((PROJECT / "notebooks").glob("*.ipynb"))


def code_of(path: Path) -> list[str]:
    return [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]


def test_the_three_notebooks_are_there() -> None:
    assert [path.name for path in NOTEBOOKS] == ["01_data.ipynb", "05_training.ipynb", "06_evaluation.ipynb"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_in_a_fresh_kernel_within_a_minute(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook's own backend draws inside it
    notebook = nbformat.read(path, as_version=4)
    begun = time.monotonic()
    NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(tmp_path)}}).execute()
    took = time.monotonic() - begun
    pictures = [o for cell in notebook.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    assert len(pictures) >= 4
    assert took < 90  # a minute on an idle core; the tests share theirs


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_kept_without_outputs(path: Path) -> None:
    for cell in nbformat.read(path, as_version=4).cells:
        assert not cell.get("outputs") and cell.get("execution_count") is None


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_the_package_and_defines_nothing(path: Path) -> None:
    cells = code_of(path)
    assert max(len(source.splitlines()) for source in cells) <= 30
    assert not [source for source in cells if re.search(r"^\s*(def|class) |sys\.path", source, re.MULTILINE)]


def test_every_part_of_the_training_notebook_asserts_what_it_shows() -> None:
    cells = nbformat.read(PROJECT / "notebooks" / "05_training.ipynb", as_version=4).cells
    parts: dict[str, str] = {}
    for cell in cells:
        if heading := re.match(r"## (\d)", cell.source):
            parts[heading[1]] = ""
        elif parts and cell.cell_type == "code":
            parts[list(parts)[-1]] += cell.source
    assert list(parts) == list("12345678")
    assert all(re.search(r"\bassert\b|assert_close", source) for source in parts.values())

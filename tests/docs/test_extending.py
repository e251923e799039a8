"""The pages on a new feature and a new baseline are followed to the letter in a copy of the source."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.code_blocks import blocks_of
from tests.kedro_command import PROJECT

from nqcast.constants import FEATURES
from nqcast.model.config import ModelConfig


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Source and tests, to be changed."""
    folder = tmp_path / "nqcast"
    for name in ("src", "tests"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PROJECT / "pyproject.toml", folder / "pyproject.toml")
    return folder


def run(copy: Path, *arguments: str) -> str:
    """What Python says, with the source of the copy; it must end well."""
    variables = {**os.environ, "PYTHONPATH": str(copy / "src"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=copy, env=variables, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def apply(copy: Path, diff: str) -> None:
    """Change the file that the diff names; what it takes away must stand there once."""
    header, *changes = diff.split("\n@@\n")
    file = copy / re.findall(r"^\+\+\+ b/(\S+)", header, re.MULTILINE)[0]
    for change in changes:
        old, new = ("\n".join(line[1:] for line in change.splitlines() if line[0] in f" {sign}") for sign in "-+")
        text = file.read_text()
        assert text.count(old) == 1, f"{file.name} has {text.count(old)} places like this:\n{old}"
        file.write_text(text.replace(old, new))


@pytest.mark.slow
def test_the_feature_of_the_page_passes_the_questions_that_all_features_are_asked(copy: Path) -> None:
    blocks = blocks_of(PROJECT / "docs" / "add_a_feature.md")
    for block in blocks:
        if block.language == "diff":
            apply(copy, block.text)
    (own,) = (block.text for block in blocks if block.language == "python")
    with (copy / "tests" / "data" / "test_features.py").open("a") as file:
        file.write(f"\n\n{own}\n")
    passed = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/data/test_features.py")
    assert "failed" not in passed
    told = run(copy, "-c", "import nqcast.constants as c; from nqcast.model.config import ModelConfig;"
               "print(c.FEATURES[-1], len(c.FEATURES) == ModelConfig().n_features)")  # fmt: skip
    assert told.split() == ["close_location", "True"]


@pytest.mark.slow
def test_the_baseline_of_the_page_can_be_asked_for_by_name(copy: Path) -> None:
    blocks = blocks_of(PROJECT / "docs" / "add_a_baseline.md")
    (code,), (diff,) = ([b.text for b in blocks if b.language == language] for language in ("python", "diff"))
    apply(copy, diff)
    (copy / "src" / "nqcast" / "evaluation" / "baselines" / "last_hour.py").write_text(f"{code}\n")
    chosen = ("-k", "every_baseline_of_the_dict or profiles or sees_nothing_after")
    passed = run(copy, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/evaluation/test_baselines.py", *chosen)
    assert "failed" not in passed
    told = run(copy, "-c", "from nqcast.evaluation.config import EvaluateConfig as C;"
               "print(C(baselines=('constants', 'last_hour', 'seasonal_har')).baseline_names)")  # fmt: skip
    assert "last_hour" in told


def test_the_model_expects_as_many_variables_as_there_are_features() -> None:
    assert ModelConfig().n_features == len(FEATURES)

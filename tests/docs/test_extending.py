"""The pages on a new feature and a new baseline are followed to the letter in a copy of the source."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.docs.code_blocks import blocks_of
from tests.kedro_command import PROJECT, kedro, newest, output_of

from nqcast.constants import FEATURES
from nqcast.model.config import ModelConfig


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Source and tests, to be changed."""
    folder = tmp_path / "nqcast"
    for name in ("src", "tests"):
        shutil.copytree(PROJECT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", ".telemetry"):
        shutil.copy(PROJECT / name, folder / name)
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
@pytest.mark.timeout(600)
def test_the_feature_of_the_page_trains_and_forecasts_and_no_module_changes(
    toy_features: Path, copy: Path, tmp_path: Path
) -> None:
    project, data = copy, Path(shutil.copytree(toy_features, tmp_path / "data"))
    shutil.copytree(PROJECT / "conf", project / "conf", ignore=shutil.ignore_patterns("local"))
    page = (PROJECT / "docs" / "add_a_feature.md").read_text()
    (file,) = re.findall(r"inside the project, `(mine/\S+\.py)`", page)
    (settings,) = re.findall(r"`(conf/local/\S+\.yml)`", page)
    blocks = blocks_of(PROJECT / "docs" / "add_a_feature.md")
    code, snippet = (block.text for block in blocks if block.language == "python")
    for place, text in ((file, code), (settings, next(b.text for b in blocks if b.language == "yaml"))):
        (project / place).parent.mkdir(parents=True, exist_ok=True)
        (project / place).write_text(f"{text}\n")
    shared = {"data": data, "cwd": project, "local": "local"}
    short = ("--params", "train.epochs=1,train.windows_per_epoch=256,tracking.enabled=false")
    chosen = ("run", "--env", "test", "--pipelines")
    output_of(kedro(*chosen, "ingest,features,train", *short, **shared))
    checkpoint = newest(data / "06_models" / "checkpoint") / "checkpoint"
    trained = json.loads((checkpoint / "checkpoint.json").read_text())
    assert len(trained["features"]) == trained["model"]["n_features"] == 25
    assert trained["features"][-1].startswith("close_location:")
    assert "forecast.html" in output_of(kedro(*chosen, "forecast", **shared))
    snippet = snippet.replace("data/06_models/checkpoint", str(data / "06_models" / "checkpoint"))
    assert "25" in run(project, "-c", f"{snippet}\nprint(forecaster.model.config.n_features)")
    (project / file).write_text(f"{code}\n# another word\n")
    refused = output_of(kedro(*chosen, "forecast", **shared), fails=True)
    assert len(set(re.findall(r"close_location:\w{8}", refused))) == 2 and "a Python file unchanged" in refused


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

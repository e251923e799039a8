"""The script in docs that shows the public names runs as it stands."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from nqcast.data.features import build_features
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.simulator import simulate


@pytest.fixture(scope="module")
def features_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features of forty simulated sessions, twenty of which only warm the averages up."""
    path = tmp_path_factory.mktemp("features") / "features.parquet"
    raw = simulate(SimulationConfig(sessions=40))
    build_features(build_bars(raw, IngestConfig()).bars).to_parquet(path)
    return path


def test_the_example_trains_and_leaves_a_checkpoint(
    features_file: Path,
    tmp_path: Path,
    project_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(sys, "argv", ["example_training.py", str(features_file), str(tmp_path / "run"), "1"])
    runpy.run_path(str(project_root / "docs" / "example_training.py"), run_name="__main__")
    torch.set_num_threads(threads)
    before, best = map(float, re.search(r"val_loss (\S+) before, (\S+) at best", capsys.readouterr().out).groups())
    assert best <= before
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "val_loss" in line] == [0, 1]
    assert (tmp_path / "run" / "checkpoint_best" / "model.safetensors").is_file()


def test_the_example_is_short(project_root: Path) -> None:
    text = (project_root / "docs" / "example_training.py").read_text()
    code = re.sub(r'^""".*?"""\n', "", text, count=1, flags=re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 32

"""The exported program says what the model says, for any batch, in a process that has never heard of the package."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nqcast.constants import CLOCK
from nqcast.data.windows import WindowTable
from nqcast.forecast.export import ExportedNetwork, export_network, largest_difference, main, window_inputs
from nqcast.forecast.forecaster import Forecaster
from nqcast.storage.checkpoint import Checkpoint


@pytest.fixture(scope="module")
def exported(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "network.pt2"
    assert export_network(plain_checkpoint, path) <= 1e-5
    return path


def test_the_program_gives_the_forecast_of_a_real_window(
    exported: Path, plain_checkpoint: Checkpoint, features: pd.DataFrame
) -> None:
    forecaster = Forecaster(plain_checkpoint)
    scale_NH, volatility_NK = forecaster.scale.describe(features)
    rows = np.array([len(features) - 1, len(features) - 700])
    batch: Any = WindowTable(features, scale_NH, volatility_NK=volatility_NK).gather(rows)
    clock = torch.stack([batch["temporal_info"][name].long() for name in CLOCK], dim=-1)
    base = torch.from_numpy(forecaster.scale.unit_quantiles_HQ).float().expand(2, -1, -1)
    ours = torch.export.load(exported).module()(batch["features"], clock, batch["scale"], base, batch["volatility"])
    for i, row in enumerate(rows):
        expected = forecaster.quantiles(features.iloc[: row + 1])
        error = np.abs(ours[i].detach().numpy() - expected) / scale_NH[row][:, None]
        assert error.max() < 1e-5


def test_it_runs_without_the_package(exported: Path, plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    network = ExportedNetwork(Forecaster(plain_checkpoint).model)
    inputs = window_inputs(network.model, 5, seed=9)
    for name, tensor in zip("abcde", inputs, strict=True):
        np.save(tmp_path / f"{name}.npy", tensor.numpy())
    code = (
        "import sys, numpy, torch; folder, file = sys.argv[1:];"
        "inputs = [torch.from_numpy(numpy.load(f'{folder}/{n}.npy')) for n in 'abcde'];"
        "out = torch.export.load(file).module()(*inputs).detach().numpy(); numpy.save(f'{folder}/out.npy', out);"
        "assert 'nqcast' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path), str(exported)], check=True, timeout=120, cwd=tmp_path)
    with torch.no_grad():
        expected = network(*inputs).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected, rtol=1e-5, atol=1e-8)


def test_another_networks_program_is_told_apart(exported: Path, plain_checkpoint: Checkpoint) -> None:
    model = Forecaster(plain_checkpoint).model
    with torch.no_grad():
        model.head.delta.bias += 1e-3
    assert largest_difference(ExportedNetwork(model), exported) > 1e-5


def test_the_file_holds_no_pickle(exported: Path) -> None:
    with zipfile.ZipFile(exported) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            assert not name.endswith((".pkl", ".pt")) or not content, name
            assert not content.startswith((b"PK", b"\x80\x02", b"\x80\x04")), name


def test_the_command_exports_the_newest_checkpoint(plain_checkpoint: Checkpoint, tmp_path: Path) -> None:
    from kedro.io import Version

    from nqcast.datasets.verified import CheckpointDataset

    CheckpointDataset(filepath=str(tmp_path / "checkpoint"), version=Version(None, "2026-01-01")).save(plain_checkpoint)
    main([str(tmp_path / "checkpoint"), str(tmp_path / "out" / "network.pt2")])
    assert (tmp_path / "out" / "network.pt2").stat().st_size > 10_000

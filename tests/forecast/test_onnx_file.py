"""The ONNX file says what the model says, run by onnxruntime, for any batch, and names its own axes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nqcast.constants import CLOCK, FEATURES, HORIZONS, LEVELS
from nqcast.data.windows import WindowTable
from nqcast.forecast.export import ExportedNetwork, export_onnx, main, onnx_difference, window_inputs
from nqcast.forecast.forecaster import Forecaster
from nqcast.storage.checkpoint import Checkpoint

pytestmark = pytest.mark.slow  # the export takes ten seconds


@pytest.fixture(scope="module")
def exported(plain_checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "out" / "network.onnx"
    assert export_onnx(plain_checkpoint, path) <= 1e-5
    return path


def run(path: Path, inputs: Any) -> np.ndarray:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    return session.run(None, {name: tensor.numpy() for name, tensor in zip(names, inputs, strict=True)})[0]


@pytest.mark.parametrize("size", [1, 2, 17])
def test_any_batch_gives_the_eager_quantiles_and_doubles_with_the_scale(
    exported: Path, plain_checkpoint: Checkpoint, size: int
) -> None:
    network = ExportedNetwork(Forecaster(plain_checkpoint).model)
    features, clock, scale, *others = window_inputs(network.model, size, seed=11 + size)
    with torch.no_grad():
        expected = network(features, clock, scale, *others).numpy()
    ours = run(exported, (features, clock, scale, *others))
    unit = np.maximum(scale.numpy()[:, :, None], np.abs(expected))
    assert (np.abs(ours - expected) / unit).max() < 1e-5
    np.testing.assert_allclose(run(exported, (features, clock, 2 * scale, *others)), 2 * ours, rtol=1e-5, atol=1e-9)


def test_a_real_window_gives_the_forecast(exported: Path, plain_checkpoint: Checkpoint, features: pd.DataFrame) -> None:
    forecaster = Forecaster(plain_checkpoint)
    scale_NH, volatility_NK = forecaster.scale.describe(features)
    table = WindowTable(features, scale_NH, volatility_NK=volatility_NK)
    batch: Any = table.gather(np.array([len(features) - 1]))
    clock = torch.stack([batch["temporal_info"][name].long() for name in CLOCK], dim=-1)
    base = torch.from_numpy(forecaster.scale.unit_quantiles_HQ).float()[None]
    ours = run(exported, (batch["features"], clock, batch["scale"], base, batch["volatility"]))[0]
    expected = forecaster.quantiles(features)
    unit = np.maximum(scale_NH[-1][:, None], np.abs(expected))
    assert (np.abs(ours - expected) / unit).max() < 1e-5


def test_one_valid_file_names_its_axes(exported: Path) -> None:
    import onnx

    assert sorted(path.name for path in exported.parent.iterdir()) == ["network.onnx", "network.onnx.sha256"]
    assert b".py" not in exported.read_bytes()  # no stack traces of the machine that exported
    model = onnx.load(exported)
    onnx.checker.check_model(model)
    facts = {entry.key.removeprefix("nqcast."): json.loads(entry.value) for entry in model.metadata_props
             if entry.key.startswith("nqcast.")}  # fmt: skip
    assert facts["levels"] == list(LEVELS)
    assert facts["horizons"] == list(HORIZONS)
    assert facts["features"] == list(FEATURES)
    assert facts["clock"] == list(CLOCK)
    assert (facts["context"], facts["fingerprint"]) == (288, "feedc0de")


def test_another_networks_file_is_told_apart(exported: Path, plain_checkpoint: Checkpoint) -> None:
    model = Forecaster(plain_checkpoint).model
    with torch.no_grad():
        model.head.delta.bias += 1e-3
    assert onnx_difference(ExportedNetwork(model), exported.read_bytes()) > 1e-5


def test_without_onnx_the_cure_is_told(
    plain_checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else found(name))
    with pytest.raises(ValueError, match=r"found no onnxruntime: pip install 'nqcast\[onnx\]'"):
        export_onnx(plain_checkpoint, tmp_path / "network.onnx")
    assert not list(tmp_path.iterdir())


def test_the_ending_of_the_file_chooses_the_format(
    plain_checkpoint: Checkpoint, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from kedro.io import Version

    from nqcast.datasets.verified import CheckpointDataset

    CheckpointDataset(filepath=str(tmp_path / "checkpoint"), version=Version(None, "2026-01-01")).save(plain_checkpoint)
    main([str(tmp_path / "checkpoint"), str(tmp_path / "network.onnx")])
    inputs = window_inputs(Forecaster(plain_checkpoint).model, 2, seed=3)
    assert run(tmp_path / "network.onnx", inputs).shape == (2, len(HORIZONS), len(LEVELS))
    with pytest.raises(SystemExit):
        main([str(tmp_path / "checkpoint"), str(tmp_path / "network.bin")])
    assert "ends in .pt2 or .onnx" in capsys.readouterr().err

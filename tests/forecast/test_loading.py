"""`nqcast.load` finds a checkpoint wherever it was saved, and its calibration beside it."""

from __future__ import annotations

import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kedro.io import Version

import nqcast
from nqcast.constants import HORIZONS, LEVELS
from nqcast.datasets.verified import CheckpointDataset, VerifiedDataset
from nqcast.evaluation.conformal import ConformalCalibration
from nqcast.forecast.config import ForecastConfig
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.verified import replace_verified_file


@pytest.fixture
def models(plain_checkpoint: Checkpoint, tmp_path: Path) -> Path:
    """The catalog's folder of models with one version of the checkpoint."""
    dataset = CheckpointDataset(
        filepath=str(tmp_path / "checkpoint"), version=Version(None, "2026-01-01T00.00.00.000Z")
    )
    dataset.save(plain_checkpoint)
    return tmp_path


def save_calibration(models: Path, weights: str, version: str = "2026-01-01T00.00.00.000Z") -> dict[str, Any]:
    calibration = ConformalCalibration(LEVELS, list(HORIZONS), weights)
    calibration.offset_HQ[:] = 0.05 * np.arange(7)
    path = models / "calibration.json"
    entry = VerifiedDataset(filepath=str(path), dataset="json.JSONDataset", version=Version(None, version))
    entry.save(calibration.state())
    return calibration.state()


def test_every_way_to_name_a_checkpoint_gives_the_same_forecast(
    models: Path, plain_checkpoint: Checkpoint, raw: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = next((models / "checkpoint").iterdir())
    expected = nqcast.load(plain_checkpoint).forecast(raw)
    for place in (models, models / "checkpoint", str(models / "checkpoint"), version, version / "checkpoint"):
        pd.testing.assert_frame_equal(nqcast.load(place).forecast(raw), expected)
    monkeypatch.chdir(models)
    pd.testing.assert_frame_equal(nqcast.load("checkpoint").forecast(raw), expected)


def test_a_damaged_newest_version_gives_way_to_the_one_before(models: Path, plain_checkpoint: Checkpoint) -> None:
    later = Version(None, "2026-02-01T00.00.00.000Z")
    other = replace(plain_checkpoint, metadata=replace(plain_checkpoint.metadata, fingerprint="later"))
    CheckpointDataset(filepath=str(models / "checkpoint"), version=later).save(other)
    assert nqcast.load(models / "checkpoint").metadata.fingerprint == "later"
    weights = models / "checkpoint" / later.save / "checkpoint" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert nqcast.load(models / "checkpoint").metadata.fingerprint == "feedc0de"
    with pytest.raises(ValueError, match="SHA-256"):
        nqcast.load(models / "checkpoint" / later.save)


def test_the_calibration_beside_a_checkpoint_is_taken_when_it_is_its_own(
    models: Path, plain_checkpoint: Checkpoint
) -> None:
    assert nqcast.load(models / "checkpoint").calibration is None
    save_calibration(models, "another")
    assert nqcast.load(models / "checkpoint").calibration is None
    save_calibration(models, plain_checkpoint.weights_sha256, "2026-01-02T00.00.00.000Z")
    save_calibration(models, "another", "2026-01-03T00.00.00.000Z")
    found = nqcast.load(models / "checkpoint").calibration
    assert found is not None and found.offset_HQ[0, 6] == pytest.approx(0.3)


def test_a_calibration_that_is_named_must_fit(models: Path) -> None:
    state = save_calibration(models, "another")
    for named in (models / "calibration.json", state):
        with pytest.raises(ValueError, match=r"fitted for the weights .*found one for another"):
            nqcast.load(models / "checkpoint", calibration=named)


SPOILT = {
    "no number": ({"offsets": [[float("nan")] * 7] * 5}, "finite offsets"),
    "words": ({"offsets": [["x"] * 7] * 5}, "finite offsets"),
    "a horizon less": ({"offsets": [[0.0] * 7] * 4}, "finite offsets"),
    "other online ones": ({"online_offsets": [[float("inf")] * 7] * 5}, "finite offsets"),
    "levels in another order": ({"levels": LEVELS[::-1]}, "expected a calibration of levels"),
    "horizons in another order": ({"horizons": list(HORIZONS)[::-1]}, "expected a calibration of levels"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_calibration_that_contradicts_itself_is_refused(how: str, plain_checkpoint: Checkpoint) -> None:
    fitted = ConformalCalibration(LEVELS, list(HORIZONS), plain_checkpoint.weights_sha256).state()
    changes, message = SPOILT[how]
    nqcast.load(plain_checkpoint, calibration=fitted)
    with pytest.raises(ValueError, match=message):
        nqcast.load(plain_checkpoint, calibration={**fitted, **changes})


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", ["", "[1]", "{", DEEP, '{"kind": ' + DEEP + "}", '{"offsets": ' + "9" * 5_000 + "}"])
def test_a_calibration_whose_text_is_no_object_is_named_and_refused(text: str, models: Path) -> None:
    """Its hash is right: whoever edited the file has renewed that too."""
    path = models / "calibration.json"
    replace_verified_file(path, text.encode())
    with pytest.raises(ValueError, match=r"expected a JSON object in .*calibration\.json"):
        nqcast.load(models / "checkpoint", calibration=path)


def test_no_checkpoint_is_said_with_its_cure(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="kedro run --pipelines train"):
        nqcast.load(tmp_path / "nothing")
    with pytest.raises(ValueError, match="expected a version"):
        nqcast.load(tmp_path)


def test_importing_the_package_loads_nothing_heavy() -> None:
    code = "import sys, nqcast; print(sorted({'torch', 'pandas', 'kedro', 'mlflow'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


def test_a_forecaster_says_in_a_line_what_it_is(plain_checkpoint: Checkpoint) -> None:
    card = DataCard(source="nq.parquet", last="2016-12-30 21:55")
    known = replace(plain_checkpoint, metadata=replace(plain_checkpoint.metadata, data=card))
    assert repr(nqcast.load(known)) == (
        "<Forecaster of NQ, trained on nq.parquet until 2016-12-30 21:55; 15m, 30m, 60m, 2h, 4h ahead, "
        "levels 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95; not calibrated>"
    )


def test_what_a_user_must_know_of_a_forecast_is_said_once(
    plain_checkpoint: Checkpoint, raw: pd.DataFrame, caplog: pytest.LogCaptureFixture
) -> None:
    simulated = replace(plain_checkpoint.metadata, data=DataCard(source="SIMULATED MARKET (seed 3)"))
    forecaster = nqcast.load(replace(plain_checkpoint, metadata=simulated))
    own, real = raw.copy(), raw.copy()
    own.attrs["source"], real.attrs["source"] = "SIMULATED MARKET (seed 4)", "nq.parquet"
    for bars in (own, real, own, real):
        forecaster.forecast(bars)
    said = caplog.messages
    assert len([line for line in said if "of real bars it knows nothing" in line]) == 1
    assert len([line for line in said if "history, not the market" in line]) == 1
    caplog.clear()
    nqcast.load(plain_checkpoint, config=ForecastConfig(as_of=raw["ts"].max() - pd.Timedelta(hours=6))).forecast(real)
    assert not [
        record for record in caplog.records if record.levelno >= logging.WARNING
    ]  # whoever names the time knows it, and the network is of no simulated market

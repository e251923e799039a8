"""`nqcast.load`: a trained checkpoint, from wherever it was saved, ready to forecast."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kedro.io import Version

from nqcast.datasets.checkpoint import DOCUMENT, CheckpointDataset, read_checkpoint
from nqcast.datasets.documents import VerifiedJSONDataset
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster

log = logging.getLogger(__name__)

CALIBRATION = "calibration.json"


def load(
    checkpoint: str | Path | dict[str, Any],
    calibration: str | Path | dict[str, Any] | None = None,
    config: ForecastConfig | None = None,
    own_features: Sequence[str | Path] = (),
) -> Forecaster:
    """A forecaster from a checkpoint: `nqcast.load("data/06_models/checkpoint").forecast(bars)`.

    Args:
        checkpoint: the catalog's versioned folder (its newest version that verifies is taken), one version in it, a
            folder that holds checkpoint.json and model.safetensors, or the artifact {"tensors", "metadata"} itself.
        calibration: a calibration.json (or its versioned folder), or its content. None takes the one that lies beside
            the checkpoint and was fitted for it; without one the quantiles are the model's own.
        config: age, gaps and history that are asked of the bars.
        own_features: the files of the features of your own that it was trained with; they are run.

    Raises:
        ValueError: there is no checkpoint, it does not verify, or the calibration is another checkpoint's.
    """
    if isinstance(checkpoint, dict):
        artifact, folder = checkpoint, None
    else:
        folder = Path(checkpoint).expanduser()
        artifact = checkpoint_in(folder)
    if isinstance(calibration, str | Path):
        calibration = _document(Path(calibration).expanduser())
    elif calibration is None and folder is not None:
        calibration = _calibration_beside(folder, artifact["metadata"].get("fingerprint", ""))
    return Forecaster(artifact, calibration, config, own_features=own_features)


def checkpoint_in(folder: Path) -> dict[str, Any]:
    """The checkpoint artifact of a versioned folder (newest version that verifies), a version, or a plain folder.

    Raises:
        ValueError: there is none, or it does not verify.
    """
    if (folder / DOCUMENT).is_file():
        return read_checkpoint(folder)
    if not folder.is_dir():
        raise ValueError(
            f"expected the folder of a checkpoint, found nothing at {folder}: train one (`kedro run --pipelines "
            "train`) or correct the path; data/06_models/checkpoint is where runs save it"
        )
    inside = [item for item in folder.iterdir() if (item / DOCUMENT).is_file()]
    if inside and inside[0].name == folder.parent.name:  # one version: <name>/<version>/<name>
        return read_checkpoint(inside[0])
    return dict(CheckpointDataset(filepath=str(folder.absolute())).load())


def _document(path: Path) -> dict[str, Any]:
    """A verified JSON file, or the newest version of a versioned one."""
    versioned = path.is_dir()
    version = Version(None, None) if versioned else None
    return dict(VerifiedJSONDataset(filepath=str(path.absolute()), version=version).load())


def _calibration_beside(folder: Path, fingerprint: str) -> dict[str, Any] | None:
    """The calibration of this checkpoint in its own folder, or in the catalog's folder of calibrations."""
    if (folder / CALIBRATION).is_file():
        return _document(folder / CALIBRATION)
    for parent in folder.absolute().parents[:3]:
        versions = sorted((parent / CALIBRATION).glob(f"*/{CALIBRATION}"), reverse=True)
        for path in versions:
            state = _document(path)
            if state.get("checkpoint") == fingerprint:
                return state
        if versions:
            log.warning(
                "%s holds no calibration of checkpoint %s: its quantiles are used as they are",
                *(parent / CALIBRATION, fingerprint),
            )
            return None
    return None

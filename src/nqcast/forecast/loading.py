"""`nqcast.load`: a trained checkpoint, from wherever it was saved, ready to forecast. Needs no Kedro."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nqcast.data.config import FeaturesConfig
from nqcast.evaluation.calibration import Calibration
from nqcast.fields import require
from nqcast.forecast.config import ForecastConfig
from nqcast.forecast.forecaster import Forecaster
from nqcast.market.config import IngestConfig
from nqcast.storage.checkpoint import (
    DOCUMENT,
    MANIFEST,
    OLD_MANIFEST,
    Checkpoint,
    read_checkpoint,
    refuse_pickle_inside,
    verify_checkpoint,
)
from nqcast.storage.json_values import read_object
from nqcast.storage.place import Place, StorePath, place
from nqcast.storage.verified import VerificationError, manifest_of, read_verified, verify
from nqcast.storage.versions import newest_verified, version_paths

log = logging.getLogger(__name__)

CALIBRATION, CHECKPOINT = "calibration.json", "checkpoint"


def load(
    checkpoint: str | Place | Checkpoint | Mapping[str, Any],
    calibration: str | Place | Mapping[str, Any] | Calibration | None = None,
    config: ForecastConfig | None = None,
    own_features: Sequence[str | Path] = (),
    ingest: IngestConfig | None = None,
) -> Forecaster:
    """A forecaster from a checkpoint: `nqcast.load("data/06_models/checkpoint").forecast(bars)`.

    Args:
        checkpoint: the catalog's versioned folder, here or by its URL in a store (its newest version that verifies is
            taken), the folder of models that holds it, one version in it, a folder that holds checkpoint.json and
            model.safetensors, such as a run directory's checkpoint_best, or the Checkpoint itself (the {"tensors",
            "metadata"} of earlier versions is taken too).
        calibration: a calibration.json (or its versioned folder), or its content. None takes the one that lies beside
            the checkpoint and was fitted for its weights; without one the quantiles are the model's own.
        config: age, gaps and history that are asked of the bars.
        own_features: the files of the features of your own that it was trained with; they are run.
        ingest: how raw bars are checked; what the training has settled of it (nqcast.forecast.config) stays.

    Raises:
        ValueError: there is no checkpoint, it does not verify or contradicts itself, or the calibration was fitted for
            other weights.
    """
    if isinstance(checkpoint, str | Path | StorePath):
        folder = place(checkpoint)
        folder = folder / CHECKPOINT if any(version_paths(folder / CHECKPOINT)) else folder
        artifact = checkpoint_in(folder)
        if calibration is None:
            calibration = _calibration_beside(folder.absolute(), artifact)
    else:
        artifact = Checkpoint.of(checkpoint)
    if isinstance(calibration, str | Path | StorePath):
        calibration = _document(place(calibration))
    if isinstance(calibration, Mapping):
        calibration = Calibration.from_json(calibration)
    return Forecaster(artifact, calibration, config, ingest, own_features)


def as_asked(
    checkpoint: Checkpoint,
    ingest: IngestConfig,
    features: FeaturesConfig,
    calibration: Mapping[str, Any] | None = None,
    config: ForecastConfig | None = None,
) -> Forecaster:
    """A forecaster by the parameters of a run; ValueError where they contradict how the checkpoint was trained."""
    made = load(checkpoint, calibration, config, features.own, ingest)
    if "volume" in features.model_fields_set and features.volume != "auto":
        require("features.volume", made.ingest.volume, features.volume)
    return made


def checkpoint_in(folder: Place) -> Checkpoint:
    """The checkpoint of a versioned folder (newest version that verifies), a version, or a plain folder.

    Raises:
        ValueError: there is none, or it does not verify.
    """
    if not folder.is_dir():
        raise ValueError(
            f"expected the folder of a checkpoint, found nothing at {folder}: train one (`kedro run --pipelines "
            "train`) or correct the path; data/06_models/checkpoint is where runs save it"
        )
    folder = folder.absolute()
    inside = folder / folder.parent.name  # one version: <name>/<version>/<name>
    if (inside / DOCUMENT).is_file():
        return read_checkpoint(inside)
    if (folder / MANIFEST).is_file() or (folder / OLD_MANIFEST).is_file():
        return read_checkpoint(folder)
    newest, broken = newest_verified(folder, verify_checkpoint)
    if newest is None:
        refuse_pickle_inside(folder)
        found = f"only broken ones ({', '.join(broken)})" if broken else "none"
        raise ValueError(
            f"expected a version of a checkpoint in {folder}, found {found}: run the train pipeline, or name "
            "the folder below it that holds one, such as data/06_models/checkpoint"
        )
    return read_checkpoint(newest)


def _document(path: Place) -> dict[str, Any]:
    """A verified JSON file, or the newest version of a versioned one."""
    if path.is_dir():
        newest, broken = newest_verified(path.absolute(), lambda version: verify(manifest_of(version)))
        if newest is None:
            raise ValueError(f"expected a version in {path} that verifies, found {', '.join(broken) or 'none'}: train")
        path = newest
    return read_object(read_verified(path, manifest_of(path)), path)


def _calibration_beside(folder: Place, checkpoint: Checkpoint) -> dict[str, Any] | None:
    """The calibration of these weights in the checkpoint's folder, or in the catalog's folder of calibrations.

    One that is damaged is passed over, with a warning: the right one may be there a second time.
    """
    if (folder / CALIBRATION).is_file():
        return _document(folder / CALIBRATION)
    for parent in folder.parents[:3]:
        versions = list(version_paths(parent / CALIBRATION))
        for path in versions:
            try:
                state = _document(path)
            except VerificationError as error:
                log.warning("%s passed over: %s", path, error)
                continue
            if state.get("weights") == checkpoint.weights_sha256:
                return state
        if versions:
            log.warning(
                "%s holds no calibration of checkpoint %s with these weights: its quantiles are used as they are",
                *(parent / CALIBRATION, checkpoint.metadata.fingerprint),
            )
            return None
    return None

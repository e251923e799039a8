"""A forecaster that validation has judged and calibrated, trained once more on what judged it.

A long validation is needed to choose and to calibrate by; afterwards its sessions are the newest that there are to
learn from.
"""

import logging
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from nqcast.data.config import SplitConfig
from nqcast.data.splits import positions, with_longer_train
from nqcast.evaluation.calibration import Calibration
from nqcast.runs.recipe import run_anew
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint
from nqcast.tracking.logger import NestedRun, nested
from nqcast.training.config import TrainConfig

log = logging.getLogger(__name__)

JUDGING = 60  # latest sessions of validation, which choose the second training's epoch, as many as `update` judges by


class Final(NamedTuple):
    """What forecasts, its calibration, and the splits by which both were made."""

    checkpoint: Checkpoint
    calibration: Calibration
    splits: pd.DataFrame


def refit(
    judged: Final, features: pd.DataFrame, split: SplitConfig, root: Path, warm_start: Checkpoint | None = None
) -> Final:
    """The judged forecaster by its own settings on longer train, calibrated by what was said before it saw validation.

    What its settings do not want refitted, and what has no more sessions to validate by than the second training needs,
    comes back as it is. A stop is no loss: the same call reads finished runs below `root` back and goes on.

    Args:
        judged: the forecaster as validation knows it.
        features: the feature table. split: the embargo between train and validation. root: folder of the runs.
        warm_start: what the judged one started from, None where it started cold.
    """
    known, before = judged.checkpoint.metadata, len(positions(judged.splits, "train"))
    config = TrainConfig(**known.train)
    if not config.refit:
        return judged
    splits = with_longer_train(features, judged.splits, split, JUDGING)
    grown = len(positions(splits, "train")) / before
    if grown == 1:
        return judged
    drawn = config.windows_per_epoch
    assert drawn != "auto", "the number of anchors has decided"
    windows = drawn and round(grown * drawn)
    run = run_anew(judged.checkpoint, features, splits, known.data, warm_start, windows_per_epoch=windows)
    last = splits.loc[splits["split"] == "train", "session"].max()
    said = f"Trained once more, up to {last:%Y-%m-%d}; the figures are of the first training."
    log.info(said)
    with nested(NestedRun(run.fingerprint, "refit", {}, {})) if config.members == 1 else nullcontext():
        checkpoint, _ = train(run, root)
    final = checkpoint.with_trailing(judged.checkpoint.trailing)
    told = (*judged.calibration.headline, said)
    name = final.metadata.fingerprint
    calibration = replace(judged.calibration, weights=final.weights_sha256, checkpoint=name, headline=told)
    return Final(final, calibration, splits)

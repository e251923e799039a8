"""A forecaster trained once more: on the validation that has judged and calibrated it, or with new bars.

A long validation is needed to choose and to calibrate by; afterwards its sessions are the newest that there are to
learn from. With new bars scale and calibration are made anew, and the better of old and new goes on.
"""

import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import SplitConfig
from nqcast.data.splits import newest_splits, positions, with_longer_train
from nqcast.data.trailing import trailing_rows
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import Calibration, fit_calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, as_arrays
from nqcast.evaluation.metrics import Floats
from nqcast.forecast.predictor import load_scale, predict_frame
from nqcast.runs.recipe import run_anew
from nqcast.runs.train import train, train_inside
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.json_values import Json
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
    checkpoint, _ = train_inside(run, root, "refit")
    final = checkpoint.with_trailing(judged.checkpoint.trailing)
    name, lines = final.metadata.fingerprint, (*judged.calibration.headline, said)
    calibration = replace(judged.calibration, weights=final.weights_sha256, checkpoint=name, headline=lines)
    return Final(final, calibration, splits)


@dataclass(frozen=True)
class Update:
    """The table with the new bars at its end, the forecaster before it, and how it goes on.

    fields: of train.*, those in which the short training differs from the one before.
    """

    features: pd.DataFrame
    card: DataCard
    last: Checkpoint
    split: SplitConfig
    validation_sessions: int
    fields: Mapping[str, Any]
    evaluate: EvaluateConfig

    def make(self, calibration: Json, root: Path) -> tuple[Checkpoint, Json, Json]:
        """The forecaster for tomorrow, its calibration, and a report with a text.

        Where no bar is new, the pair that is there. Otherwise the version with the smaller pinball loss (in returns,
        mean over horizons) on the latest sessions, with trailing rows of these bars, calibrated on these sessions.
        """
        end = int(utc_nanoseconds(self.features["ts"])[-1])
        if self.last.trailing and int(self.last.trailing["ts"][-1]) >= end:
            text = f"No bar after {self.card.last} UTC: the version of {self.last.metadata.data.last} UTC stays."
            return self.last, calibration, {"status": "nothing new", "text": text}
        splits = newest_splits(self.features, self.split, self.validation_sessions)
        new = self._trained(splits, root)
        anchors = {name: self._anchors(one, splits) for name, one in (("before", self.last), ("new", new))}
        losses = {name: metrics.mean_pinball(one.quantiles, one.targets, one.levels) for name, one in anchors.items()}
        better = bool(losses["new"].mean() < losses["before"].mean())  # in returns: their scales are others
        kept, fitted_on = (new, anchors["new"]) if better else (self.last, anchors["before"])
        rows = trailing_rows(self.features, load_scale(kept).config)
        fitted = replace(fit_calibration(fitted_on, kept, self.evaluate), val_loss=None)
        return kept.with_trailing(rows), fitted.to_json(), self._report(splits, losses, better)

    def _trained(self, splits: pd.DataFrame, root: Path) -> Checkpoint:
        changes = {"members": max(self.last.members, 1), **self.fields}
        return train(run_anew(self.last, self.features, splits, self.card, self.last, **changes), root)[0]

    def _anchors(self, checkpoint: Checkpoint, splits: pd.DataFrame) -> Forecasts:
        """What a version forecasts on the validation anchors."""
        frame = predict_frame(checkpoint, self.features, positions(splits, "validation"), self.evaluate)
        return as_arrays(frame, checkpoint.metadata.quantiles, checkpoint.metadata.horizons)

    def _report(self, splits: pd.DataFrame, losses: Mapping[str, Floats], better: bool) -> Json:
        names = self.last.metadata.horizons
        gain_H = 100 * (1 - losses["new"] / losses["before"])
        sessions = splits.loc[splits["split"] == "validation", "session"]
        shown = " ".join(f"{name} {gain:+.2f}" for name, gain in zip(names, gain_H, strict=True))
        text = (
            f"On {sessions.nunique()} sessions from {sessions.min():%Y-%m-%d} to {sessions.max():%Y-%m-%d} the new "
            f"version gains {shown} % of the loss of the one before."
        )
        found = "The new version takes its place." if better else "The one before stays, calibrated anew."
        by_name = {name: dict(zip(names, map(float, loss_H), strict=True)) for name, loss_H in losses.items()}
        status = "replaced" if better else "kept"
        return {"status": status, "losses": by_name, "text": textwrap.fill(text, 79), "headline": [found]}

"""A forecaster goes on with new bars: scale and calibration anew, a short training, and the better of old and new."""

import logging
import textwrap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import SplitConfig
from nqcast.data.splits import newest_splits, positions
from nqcast.data.trailing import trailing_rows
from nqcast.evaluation import metrics
from nqcast.evaluation.calibration import fit_calibration
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import as_arrays
from nqcast.evaluation.metrics import Floats
from nqcast.forecast.predictor import load_scale, predict_frame
from nqcast.runs.recipe import run_anew
from nqcast.runs.train import train
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.json_values import Json

log = logging.getLogger(__name__)


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
        losses = {name: self._loss(one, splits) for name, one in (("before", self.last), ("new", new))}
        better = losses["new"].mean() < losses["before"].mean()
        kept = new if better else self.last
        rows = trailing_rows(self.features, load_scale(kept).config)
        fitted = fit_calibration(self._anchors(kept, splits), kept, self.evaluate)
        fitted = replace(fitted, val_loss=None)
        return kept.with_trailing(rows), fitted.to_json(), self._report(splits, losses, better)

    def _trained(self, splits: pd.DataFrame, root: Path) -> Checkpoint:
        changes = {"members": max(self.last.members, 1), **self.fields}
        return train(run_anew(self.last, self.features, splits, self.card, self.last, **changes), root)[0]

    def _anchors(self, checkpoint: Checkpoint, splits: pd.DataFrame) -> Any:
        frame = predict_frame(checkpoint, self.features, positions(splits, "validation"), self.evaluate)
        return as_arrays(frame, checkpoint.metadata.quantiles, checkpoint.metadata.horizons)

    def _loss(self, checkpoint: Checkpoint, splits: pd.DataFrame) -> Floats:
        """Mean pinball loss (H,) on the validation anchors, in returns: the scales of old and new are others."""
        anchors = self._anchors(checkpoint, splits)
        return np.asarray(metrics.mean_pinball(anchors.quantiles, anchors.targets, checkpoint.metadata.quantiles))

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

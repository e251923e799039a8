"""Folds of a walk-forward: trading dates at which train, validation and out-of-sample begin."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Required, TypedDict

import numpy as np
import pandas as pd

from nqcast.data.config import SplitConfig
from nqcast.data.splits import anchor_mask
from nqcast.experiments.config import WalkForwardConfig
from nqcast.fields import changed
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.json_values import Json


class FoldDates(TypedDict):
    """First trading date of each part and the last of the out-of-sample stretch, as text."""

    train_start: str
    validation_start: str
    test_start: str
    test_end: str


class FoldLine(FoldDates, total=False):
    """A fold's line in the log: its dates, its partition, and how it ended; joined, also what its record adds."""

    fold: Required[str]
    partition: Required[str]
    status: str  # finished, skipped or failed
    error: str
    seconds: float
    anchors: dict[str, int]  # by split
    epoch: int  # the best one


class FoldRecord(FoldLine, total=False):
    """What was done in a fold: its line, and what was trained."""

    checkpoint: str
    warm_start: str | None
    calibration: Json
    history: list[Json]


class Partition(TypedDict):
    """A fold on disk: forecasts of every kind, the checkpoint, and what was done."""

    frame: pd.DataFrame
    checkpoint: Checkpoint
    record: FoldRecord


Partitions = Mapping[str, Callable[[], Partition]]
"""Each finished fold by its name, read when it is called."""


@dataclass(frozen=True)
class Fold:
    """One fold: its name (fold_01 …) and the split by dates that it is."""

    name: str
    split: SplitConfig

    @property
    def dates(self) -> FoldDates:
        part = self.split
        return FoldDates(
            train_start=str(part.train_start),
            validation_start=str(part.validation_start),
            test_start=str(part.test_start),
            test_end=str(part.test_end),
        )


def plan_folds(features: pd.DataFrame, split: SplitConfig, config: WalkForwardConfig) -> list[Fold]:
    """Folds in time order whose out-of-sample stretches touch each other and end with the data.

    `split` gives context, embargo and warm-up; its shares and dates are not used. Purge and embargo are
    `splits.make_splits`': no label of train ends, and no window of validation begins, before the other is over.

    Raises:
        ValueError: fewer sessions with anchors than the folds need.
    """
    sessions = features["session"].to_numpy().astype("datetime64[D]")
    usable = np.unique(sessions[anchor_mask(features, split)])
    first_test = len(usable) - config.folds * config.test_sessions
    first_train = first_test - config.validation_sessions - config.train_sessions
    if first_train < 0:
        raise ValueError(
            f"expected at least {len(usable) - first_train} sessions with anchors for {config.folds} folds of "
            f"{config.test_sessions} sessions after {config.train_sessions} that train and "
            f"{config.validation_sessions} that validate, found {len(usable)}: "
            "lower walk_forward.folds or a length, or give more bars"
        )
    return [_fold(usable, split, config, k, first_test + k * config.test_sessions) for k in range(config.folds)]


def _fold(usable: np.ndarray, split: SplitConfig, config: WalkForwardConfig, index: int, test: int) -> Fold:
    validation = test - config.validation_sessions
    train = validation - config.train_sessions if config.mode == "rolling" else 0
    dates = {
        "train_start": usable[train].item(),
        "validation_start": usable[validation].item(),
        "test_start": usable[test].item(),
        "test_end": usable[test + config.test_sessions - 1].item(),
    }
    return Fold(f"fold_{index + 1:02d}", changed(split, dates))

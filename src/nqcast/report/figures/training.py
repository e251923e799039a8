"""How training went: losses per epoch, and the learning rate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nqcast.evaluation.metrics import Floats
from nqcast.report.figures.style import BLACK, BLUE, GREEN, VERMILION, finish, new_figure


def training_curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Train and validation loss (pinball of return / scale) above, learning rate below, by epoch.

    ``history``: one dict per epoch with epoch, val_loss, and from epoch 1 on train_loss and learning_rate. The best
    epoch by validation loss is marked. ValueError for an empty history.
    """
    if not history:
        raise ValueError("expected the history of a training run, found no epoch: train first")
    epoch = np.array([record["epoch"] for record in history], dtype=float)
    figure = new_figure(8.0, 4.6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2.2, 1])
    upper.plot(epoch, _column(history, "train_loss"), "--o", color=BLUE, markersize=3.5, label="train")
    validation = _column(history, "val_loss")
    upper.plot(epoch, validation, "-s", color=VERMILION, markersize=3.5, label="validation")
    if np.isfinite(validation).any():
        best = int(np.nanargmin(validation))
        label = f"best: epoch {epoch[best]:.0f}"
        upper.plot(epoch[best], validation[best], "*", color=BLACK, markersize=12, label=label, zorder=5)
    finish(upper, "Training", y="Pinball loss / scale").legend(fontsize=9, frameon=False)
    lower.plot(epoch, _column(history, "learning_rate"), "-", color=GREEN, marker="o", markersize=3)
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    finish(lower, x="Epoch (0: before the first step)", y="Learning rate")
    return figure


def _column(history: Sequence[Mapping[str, float]], name: str) -> Floats:
    values = [record.get(name) for record in history]
    return np.array([np.nan if value is None else value for value in values], dtype=float)

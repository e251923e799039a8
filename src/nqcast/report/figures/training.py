"""How training went, losses and learning rate by epoch; and how a search for parameters went."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nqcast.evaluation.metrics import Floats
from nqcast.experiments.search_space import SearchParameter, as_choice
from nqcast.experiments.tuning_report import Found, Row
from nqcast.report.figures.style import BLACK, BLUE, GREEN, VERMILION, finish, new_figure

if TYPE_CHECKING:
    import optuna


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


def tuning_figures(found: Found, space: Mapping[str, SearchParameter]) -> tuple[Figure, Figure]:
    """The history, and one panel per parameter of `space`: of the trials that are whole, as Optuna draws them."""
    from optuna.visualization.matplotlib import plot_optimization_history, plot_slice

    return _drawn(plot_optimization_history, found, space), _drawn(plot_slice, found, space)


def _drawn(plot: Callable[..., object], found: Found, space: Mapping[str, SearchParameter]) -> Figure:
    """Optuna draws with pyplot, in a style of its own: neither stays behind."""
    if matplotlib.get_backend(auto_select=False) is None:
        matplotlib.use("agg")
    from matplotlib import pyplot

    with pyplot.rc_context(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the plots are marked as experimental, since Optuna 2.2
        plot(_study(found, space), target_name=found["objective"])
        figure = pyplot.gcf()
        figure.set_size_inches(max(9.0, 3.2 * len(figure.axes)), 5.0)
        pyplot.close(figure)
    return figure


def _study(found: Found, space: Mapping[str, SearchParameter]) -> optuna.Study:
    """The whole trials as a study of Optuna's, in memory."""
    import optuna

    study = optuna.create_study(study_name=found["study"])
    whole = [row for row in found["trials"] if row["state"] == "complete"]
    study.add_trials([_trial(row, space) for row in whole])
    return study


def _trial(row: Row, space: Mapping[str, SearchParameter]) -> optuna.trial.FrozenTrial:
    from optuna.trial import create_trial

    distributions = {name: space[name].distribution(type(value) is int) for name, value in row["parameters"].items()}
    stored = {name: as_choice(value) for name, value in row["parameters"].items()}
    return create_trial(value=row["value"], params=stored, distributions=distributions)

"""A tuning in two figures of Optuna's own: how the best value fell trial by trial, and the value by each parameter."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import matplotlib
from matplotlib.figure import Figure

from nqcast.experiments.search_space import SearchParameter, as_choice
from nqcast.experiments.tuning_report import Found, Row

if TYPE_CHECKING:
    import optuna


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

"""The trials of one study, one after the other: drawn, trained, pruned, and tried again where a kill cut them short."""

from __future__ import annotations

import hashlib
import logging
import math
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from nqcast.experiments.config import TuneConfig
from nqcast.experiments.search_space import as_choice, from_choice
from nqcast.experiments.trial_card import CARD, TrialCard
from nqcast.stopping import leave_if_asked
from nqcast.training.trainer import TrainingFailedError

logger = logging.getLogger(__name__)

History = list[dict[str, Any]]


class NotFiniteError(ValueError):
    """A trial's objective is no number."""


class Trials:
    """Args:
    config: how many, and how they are drawn and pruned.
    configured: the configured values by name, the first trial where the space holds them.
    distributions: the space in Optuna's words.
    optuna, study: the library and the study in its storage.
    folder: where the trials' folders lie.
    """

    def __init__(
        self,
        config: TuneConfig,
        configured: Mapping[str, Any],
        distributions: Mapping[str, Any],
        optuna: Any,
        study: Any,
        folder: Path,
    ) -> None:
        self._config, self._configured, self._distributions = config, configured, dict(distributions)
        self._optuna, self._study, self._folder = optuna, study, folder
        self._state = optuna.trial.TrialState

    def finish(
        self, recipe_of: Callable[[dict[str, Any]], Any], train: Callable[[Any, Path, EpochFollower], History]
    ) -> None:
        """Try until config.trials have ended; first those again that a kill cut short.

        Args:
            recipe_of: parameters by name to what is trained; ValueError where they do not fit each other.
            train: trains it in a folder and gives the history, one dict per epoch, all of them told to the follower.
        """
        self._put_right()
        wanted, done = self._config.trials, self._ended()
        logger.info("study %s: %d of %d trials have ended", self._study.study_name, done, wanted)
        with tqdm(total=wanted, initial=min(done, wanted), desc="trials", unit="trial", disable=None) as bar:
            while self._ended() < wanted:
                leave_if_asked()
                self._try_one(recipe_of, train)
                bar.update(min(self._ended(), wanted) - bar.n)

    def rows(self) -> list[dict[str, Any]]:
        """Every trial as JSON-able values, in order; value is the least objective of its epochs."""
        return [self._row(trial) for trial in self._all()]

    def _all(self, *states: Any) -> list[Any]:
        return list(self._study.get_trials(deepcopy=False, states=states or None))

    def _ended(self) -> int:
        return len(self._all(self._state.COMPLETE, self._state.PRUNED))

    def _errors(self) -> list[Any]:
        return [trial for trial in self._all(self._state.FAIL) if "error" in trial.user_attrs]

    def _trial_folder(self, number: int) -> Path:
        return self._folder / f"trial_{number:04d}"

    def _put_right(self) -> None:
        """Trials still running belong to a process that is gone: they failed, and are tried again."""
        for trial in self._all(self._state.COMPLETE, self._state.PRUNED):
            _remove_checkpoints(self._trial_folder(trial.number))
        waiting = {trial.user_attrs.get("replaces") for trial in self._all(self._state.WAITING)}
        for old in self._all(self._state.RUNNING):
            if old.number not in waiting and set(old.params) == set(self._distributions):
                self._study.enqueue_trial(old.params, user_attrs={**old.user_attrs, "replaces": old.number})
            self._study.tell(old.number, state=self._state.FAIL)
            logger.info("trial %d was cut short and is tried again", old.number)

    def _try_one(self, recipe_of: Callable[..., Any], train: Callable[..., History]) -> None:
        trial = self._next()
        parameters, folder = self._parameters(trial.params), self._trial_folder(trial.number)
        follower = EpochFollower(trial, self._optuna.TrialPruned, self._config)
        self._take_over(trial, folder, follower)
        card = TrialCard(folder / CARD, self._study.study_name, trial.number, parameters)
        card.begin()
        try:
            history = train(recipe_of(parameters), folder, follower)
            told = self._study.tell(trial.number, follower.best(history))
        except self._optuna.TrialPruned:
            told = self._study.tell(trial.number, state=self._state.PRUNED)
        except (TrainingFailedError, ValueError) as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            told = self._study.tell(trial.number, state=self._state.FAIL)
        row = self._row(told)
        card.end(row["state"], {self._config.objective: row["value"]})
        _remove_checkpoints(folder)
        logger.info("%s", _line(row, self._config.objective))
        self._refuse_too_many_errors()

    def _next(self) -> Any:
        """Drawn by a sampler whose seed is the trial's place: a study that went on draws what it would have drawn."""
        place = self._ended() + len(self._errors())
        if place == 0 and self._config.try_configured:
            self._enqueue_configured()
        self._study.sampler = self._sampler(place)
        return self._study.ask(self._distributions)

    def _enqueue_configured(self) -> None:
        space = self._config.space
        if all(space[name].holds(value) for name, value in self._configured.items()):
            stored = {name: as_choice(value) for name, value in self._configured.items()}
            self._study.enqueue_trial(stored, user_attrs={"configured": True}, skip_if_exists=True)
        else:
            logger.info("the configured values lie outside tune.space and are not tried: %s", dict(self._configured))

    def _sampler(self, place: int) -> Any:
        seed = int(hashlib.sha256(f"{self._config.seed}:{place}".encode()).hexdigest()[:8], 16)
        if self._config.sampler == "random":
            return self._optuna.samplers.RandomSampler(seed)
        return self._optuna.samplers.TPESampler(seed=seed, n_startup_trials=self._config.startup_trials)

    def _take_over(self, trial: Any, folder: Path, follower: EpochFollower) -> None:
        """Give a replacement the run directory and the epochs of the trial that it replaces."""
        old = trial.user_attrs.get("replaces")
        if old is None:
            return
        if self._trial_folder(old).is_dir() and not folder.exists():
            (self._trial_folder(old) / CARD).unlink(missing_ok=True)
            self._trial_folder(old).rename(folder)
        for epoch, value in self._all()[old].intermediate_values.items():
            follower.report(epoch, value)

    def _refuse_too_many_errors(self) -> None:
        errors, most = self._errors(), self._config.most_failures
        if len(errors) > most:
            raise ValueError(
                f"expected at most {most} failed trials, found {len(errors)}, the latest with "
                f"{errors[-1].user_attrs['error']}: correct tune.space, or raise tune.most_failures"
            )

    def _parameters(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Optuna's values as the configuration takes them."""
        space = self._config.space
        return {name: from_choice(space[name], stored[name]) for name in space if name in stored}

    def _row(self, trial: Any) -> dict[str, Any]:
        steps = trial.intermediate_values
        row = {
            "trial": trial.number,
            "state": {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed"),
            "value": min(steps.values(), default=None),
            "epochs": max(steps, default=0),
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
            "configured": bool(trial.user_attrs.get("configured")),
            "parameters": self._parameters(trial.params),
        }
        return row | ({"error": trial.user_attrs["error"]} if "error" in trial.user_attrs else {})


class EpochFollower:
    """The Trainer's logger of a trial: reports every epoch to Optuna, and ends the trial where that says so."""

    def __init__(self, trial: Any, pruned: type[Exception], config: TuneConfig) -> None:
        self._trial, self._pruned, self._config = trial, pruned, config
        self._reported: set[int] = set()

    def log(self, values: Mapping[str, Any], step: int) -> None:
        """Raise optuna.TrialPruned where the epoch is worse than the median of the others; NotFiniteError for NaN."""
        epoch = values["epoch"]
        if epoch == 0:  # the untrained network: the same for all
            return
        self.report(epoch, values[self._config.objective])
        if self._trial.should_prune():
            raise self._pruned

    def report(self, epoch: int, value: float | None) -> None:
        """Tell Optuna an epoch's objective, once."""
        if value is None or not math.isfinite(value):
            raise NotFiniteError(f"expected a finite {self._config.objective} after epoch {epoch}, found {value}")
        if epoch not in self._reported:
            self._reported.add(epoch)
            self._trial.report(value, epoch)

    def best(self, history: History) -> float:
        """Least objective over the trained epochs; a resumed trial's earlier ones come from its history."""
        for record in history[1:]:
            self.report(record["epoch"], record[self._config.objective])
        return float(min(record[self._config.objective] for record in history[1:]))


def _line(row: Mapping[str, Any], objective: str) -> str:
    value = "no result" if row["value"] is None else f"{objective} {row['value']:.6g}"
    chosen = ", ".join(f"{name}={_short(v)}" for name, v in row["parameters"].items())
    reason = f" ({row['error']})" if "error" in row else ""
    return f"trial {row['trial']} {row['state']}{reason}: {value} after {row['epochs']} epochs, {chosen}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _remove_checkpoints(folder: Path) -> None:
    """The metrics of an ended trial stay; its weights, which nobody asks for, would fill the disk."""
    for path in folder.glob("*/checkpoint_*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)

"""Hyperparameters searched by Optuna: trials are training runs, judged on validation, kept in SQLite, resumable.

<root>/studies.db                     Optuna's storage; `optuna-dashboard sqlite:///…` reads it too
<root>/<study>/trial_0003/<run>/      the trial's run directory; checkpoints go when the trial has ended
"""

from __future__ import annotations

import logging
import math
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel
from tqdm import tqdm

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, validation_span
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.search_space import Value, as_choice, by_group, from_choice, is_whole
from nqcast.experiments.tuning_report import Found, Parameters, Row, render_tuning, short
from nqcast.runs.recipe import Recipe
from nqcast.stopping import leave_if_asked
from nqcast.storage.checkpoint import DataCard
from nqcast.storage.fingerprint import digest, fingerprint
from nqcast.storage.lock import DirectoryLock
from nqcast.tracking.logger import NestedRun, nested
from nqcast.training.trainer import TrainingFailedError

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution
    from optuna.trial import TrialState

logger = logging.getLogger(__name__)

History = list[dict[str, float]]


class NotFiniteError(ValueError):
    """A trial's objective is no number."""


def load_optuna() -> None:
    """Have Optuna ready and quiet; ValueError with the cure where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "expected optuna to be installed, found it missing: pip install 'nqcast[tune]' (or pip install optuna)"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@dataclass(frozen=True)
class Trials:
    """Draws, trains and judges the trials of one study.

    config: how many, and how they are drawn and pruned.
    configured: the configured values by name, the first trial where the space holds them.
    distributions: the space in Optuna's words.
    study: the study in its storage.
    folder: where the trials' folders lie.
    """

    config: TuneConfig
    configured: Parameters
    distributions: dict[str, BaseDistribution]
    study: optuna.Study
    folder: Path

    @property
    def _state(self) -> type[TrialState]:
        from optuna.trial import TrialState

        return TrialState

    def finish(self, train: Training) -> None:
        """Try until config.trials have ended; first those again that a kill cut short."""
        self._put_right()
        wanted, done = self.config.trials, self._ended()
        logger.info("study %s: %d of %d trials have ended", self.study.study_name, done, wanted)
        with tqdm(total=wanted, initial=min(done, wanted), desc="trials", unit="trial", disable=None) as bar:
            while self._ended() < wanted:
                leave_if_asked()
                self._try_one(train)
                bar.update(min(self._ended(), wanted) - bar.n)

    def rows(self) -> list[Row]:
        return [self._row(trial) for trial in self._all()]

    def _all(self, *states: optuna.trial.TrialState) -> list[optuna.trial.FrozenTrial]:
        return list(self.study.get_trials(deepcopy=False, states=states or None))

    def _ended(self) -> int:
        return len(self._all(self._state.COMPLETE, self._state.PRUNED))

    def _errors(self) -> list[str]:
        return [trial.user_attrs["error"] for trial in self._all(self._state.FAIL) if "error" in trial.user_attrs]

    def _folder_of(self, trial: optuna.trial.FrozenTrial) -> Path:
        """A trial that is tried again goes on in the folder of the first one."""
        return self.folder / f"trial_{trial.system_attrs.get('failed_trial', trial.number):04d}"

    def _put_right(self) -> None:
        """Trials still running belong to a process that is gone: they failed, and Optuna's callback queues them again.

        The callback usually waits for a heartbeat to fail; the lock on the folder says at once that nobody works here.
        """
        for trial in self._all(self._state.COMPLETE, self._state.PRUNED):
            _remove_checkpoints(self._folder_of(trial))
        for trial in self._all(self._state.RUNNING):
            self.study.tell(trial.number, state=self._state.FAIL)
            if set(trial.params) == set(self.distributions):  # the kill came after all had been drawn
                _retry()(self.study, trial)
            logger.info("trial %d was cut short and is tried again", trial.number)

    def _try_one(self, train: Training) -> None:
        trial = self._next()
        parameters, folder = self._parameters(trial.params), self._folder_of(self._all()[trial.number])
        name = f"trial_{trial.number:04d}"
        tags = {"optuna.study": self.study.study_name, "optuna.trial": str(trial.number)}
        with nested(NestedRun(f"{self.study.study_name}/{name}", name, parameters, tags)) as run:
            row = self._row(self._outcome(trial, lambda follower: train(parameters, folder, follower)))
            run.failed = row["state"] == "failed"
            run.tags["optuna.state"] = row["state"]
            run.metrics = {} if row["value"] is None else {f"best_{self.config.objective}": row["value"]}
        _remove_checkpoints(folder)
        logger.info("%s", _line(row, self.config.objective))
        self._refuse_too_many_errors()

    def _outcome(self, trial: optuna.Trial, train: Callable[[EpochFollower], History]) -> optuna.trial.FrozenTrial:
        """Train one trial and tell the study how it ended: complete, pruned or failed."""
        from optuna import TrialPruned

        follower = EpochFollower(trial, self._all()[trial.number].intermediate_values, self.config)
        try:
            return self.study.tell(trial.number, follower.best(train(follower)))
        except TrialPruned:
            return self.study.tell(trial.number, state=self._state.PRUNED)
        except (TrainingFailedError, ValueError) as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}"[:500])
            return self.study.tell(trial.number, state=self._state.FAIL)

    def _next(self) -> optuna.Trial:
        """A trial drawn with its place as the seed: a study that goes on draws what it would have drawn."""
        place = self._ended() + len(self._errors())
        if place == 0 and self.config.try_configured:
            self._enqueue_configured()
        self.study.sampler = self._sampler(place)
        return self.study.ask(self.distributions)

    def _enqueue_configured(self) -> None:
        space = self.config.space
        if all(space[name].holds(value) for name, value in self.configured.items()):
            stored = {name: as_choice(value) for name, value in self.configured.items()}
            self.study.enqueue_trial(stored, user_attrs={"configured": True}, skip_if_exists=True)
        else:
            logger.info("the configured values lie outside tune.space and are not tried: %s", dict(self.configured))

    def _sampler(self, place: int) -> optuna.samplers.BaseSampler:
        from optuna.samplers import RandomSampler, TPESampler

        seed = int(digest(f"{self.config.seed}:{place}".encode(), 8), 16)
        if self.config.sampler == "random":
            return RandomSampler(seed)
        return TPESampler(seed=seed, n_startup_trials=self.config.startup_trials)

    def _refuse_too_many_errors(self) -> None:
        errors, most = self._errors(), self.config.most_failures
        if len(errors) > most:
            raise ValueError(
                f"expected at most {most} failed trials, found {len(errors)}, the latest with {errors[-1]}: correct "
                "tune.space, or raise tune.most_failures"
            )

    def _parameters(self, stored: Mapping[str, Value]) -> Parameters:
        """Optuna's values as the configuration takes them."""
        space = self.config.space
        return {name: from_choice(space[name], stored[name]) for name in space if name in stored}

    def _row(self, trial: optuna.trial.FrozenTrial) -> Row:
        steps = trial.intermediate_values
        row: Row = {
            "trial": trial.number,
            "state": {"COMPLETE": "complete", "PRUNED": "pruned"}.get(trial.state.name, "failed"),
            "value": min(steps.values(), default=None),
            "epochs": max(steps, default=0),
            "seconds": round(trial.duration.total_seconds(), 1) if trial.duration else None,
            "configured": bool(trial.user_attrs.get("configured")),
            "parameters": self._parameters(trial.params),
        }
        if "error" in trial.user_attrs:
            row["error"] = trial.user_attrs["error"]
        return row


class EpochFollower:
    """The Trainer's logger of a trial: reports every epoch to Optuna, and ends the trial where that says so."""

    def __init__(self, trial: optuna.Trial, known: Mapping[int, float], config: TuneConfig) -> None:
        """`known`: epochs of the trial that this one takes up again."""
        self._trial, self._reported, self._objective = trial, set(known), config.objective

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Raise optuna.TrialPruned where the epoch is worse than the median of the others; NotFiniteError for NaN."""
        from optuna import TrialPruned

        if values["epoch"] == 0:  # the untrained network: the same for all
            return
        self._report(values)
        if self._trial.should_prune():
            raise TrialPruned

    def best(self, history: History) -> float:
        """Least objective over the trained epochs; a resumed trial's earlier ones come from its history."""
        for record in history[1:]:
            self._report(record)
        return float(min(record[self._objective] for record in history[1:]))

    def _report(self, record: Mapping[str, float]) -> None:
        """Tell Optuna an epoch's objective, once."""
        epoch, value = int(record["epoch"]), record[self._objective]
        if value is None or not math.isfinite(value):
            raise NotFiniteError(f"expected a finite {self._objective} after epoch {epoch}, found {value}")
        if epoch not in self._reported:
            self._reported.add(epoch)
            self._trial.report(value, epoch)


Training = Callable[[Parameters, Path, EpochFollower], History]
"""Trains a network with these parameters in a folder and gives its history, one dict per epoch, each told to the
follower; ValueError where the parameters do not fit each other."""


def _retry() -> Callable[[optuna.Study, optuna.trial.FrozenTrial], None]:
    """Optuna's own callback that queues a trial again, with the epochs that it had reported."""
    from optuna.storages import RetryHeartbeatStaleTrialCallback

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is marked as experimental, since its version 2.8
        return RetryHeartbeatStaleTrialCallback(inherit_intermediate_values=True)


def _line(row: Row, objective: str) -> str:
    value = "no result" if row["value"] is None else f"{objective} {row['value']:.6g}"
    chosen = ", ".join(f"{name}={short(v)}" for name, v in row["parameters"].items())
    reason = f" ({row['error']})" if "error" in row else ""
    return f"trial {row['trial']} {row['state']}{reason}: {value} after {row['epochs']} epochs, {chosen}"


def _remove_checkpoints(folder: Path) -> None:
    """The metrics of an ended trial stay; its weights, which nobody asks for, would fill the disk."""
    for path in folder.glob("*/checkpoint_*"):
        if path.is_symlink() or path.is_file():
            path.unlink()
        else:
            shutil.rmtree(path)


STORAGE = "studies.db"


@dataclass(frozen=True)
class Tuning:
    """Everything that shapes a study; equal parts and equal bars are the same study, which goes on where it stopped."""

    split: SplitConfig
    recipe: Recipe
    config: TuneConfig

    def run(self, features: pd.DataFrame, root: Path) -> Found:
        """Work below `root` until config.trials trials have ended, and tell what they found.

        A trial that a kill cut short counts as failed; its replacement goes on from its last checkpoint. So an
        interrupted study ends with the same trials as an uninterrupted one.

        Raises:
            ValueError: Optuna is missing, nothing is searched, too many trials failed by themselves, or none is whole.
            DirectoryBusyError: another process tunes below `root`.
            RunStopped: a signal asked for an end.
        """
        if not self.config.space or self._base().train.epochs < 1:
            raise ValueError(
                "expected parameters to search and at least one epoch, found an empty tune.space or no epochs: "
                "name parameters under tune.space in conf/base/parameters_tune.yml and set tune.train.epochs"
            )
        load_optuna()
        import optuna

        splits, card = make_splits(features, self.split), data_card(features)
        name = self.name(card)
        with DirectoryLock(root):
            storage = optuna.storages.RDBStorage(f"sqlite:///{root / STORAGE}")
            try:
                pruner = self._pruner()
                study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, pruner=pruner)
                trials = Trials(self.config, self.configured(), self.distributions(), study, root / name)
                trials.finish(
                    lambda parameters, folder, follower: self.recipe_of(parameters).make(
                        features, splits, card, folder, logger=follower
                    )[1]
                )
                rows = trials.rows()
            finally:
                storage.remove_session()
                storage.engine.dispose()
        return self._found(name, rows, validation_span(features, splits))

    def name(self, card: DataCard) -> str:
        """Name of the study: a fingerprint of the bars and of everything that shapes a trial, their number left out."""
        config = self.config.model_dump(mode="json", exclude={"trials", "most_failures"})
        content = [card.fingerprint, self.split.model_dump(mode="json"), self.recipe.content, config]
        return "tune_" + fingerprint(content, 12)

    def recipe_of(self, parameters: Parameters) -> Recipe:
        """The recipe of one trial; pydantic's ValidationError, a ValueError, for a combination that does not fit."""
        return self._base().with_fields(**by_group(parameters))

    def configured(self) -> Parameters:
        """The values that the searched parameters have without a search."""
        return {name: getattr(config, field) for name, config, field in self._searched()}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distribution of each parameter."""
        space = self.config.space
        return {n: space[n].distribution(is_whole(type(config), field)) for n, config, field in self._searched()}

    def _searched(self) -> Iterator[tuple[str, BaseModel, str]]:
        """Name of each searched parameter, the configuration of its group, and its field there."""
        base = self._base()
        for name in self.config.space:
            group, field = name.split(".")
            yield name, getattr(base, group), field

    def _base(self) -> Recipe:
        return self.recipe.with_fields(train={**self.config.train, "top_k": 1})

    def _pruner(self) -> optuna.pruners.BasePruner:
        from optuna.pruners import MedianPruner, NopPruner

        c = self.config
        return MedianPruner(c.startup_trials, c.prune_from_epoch) if c.prune else NopPruner()

    def _found(self, name: str, rows: list[Row], anchors: str) -> Found:
        whole = {row["value"]: row for row in reversed(rows) if row["state"] == "complete" and row["value"] is not None}
        if not whole:
            raise ValueError(
                f"expected at least one whole trial, found {len(rows)} of which none ended: raise tune.trials or "
                "tune.startup_trials"
            )
        own = [value for value, row in whole.items() if row["configured"]]
        found: Found = {
            "study": name,
            "objective": self.config.objective,
            "anchors": anchors,
            "trials": rows,
            "best": whole[min(whole)],
            "configured": own[0] if own else None,
            "text": "",
        }
        return {**found, "text": render_tuning(found)}

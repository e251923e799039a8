"""Hyperparameters searched by Optuna: trials are training runs, judged on validation, kept in SQLite, resumable.

<root>/studies.db                     Optuna's storage; `optuna-dashboard sqlite:///…` reads it too
<root>/<study>/trial_0003/trial.json  what is tried and how it ended, for whoever follows the trials
<root>/<study>/trial_0003/<run>/      the trial's run directory; checkpoints go when the trial has ended
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, positions
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.search_space import as_choice, is_whole, nested
from nqcast.experiments.trials import Trials
from nqcast.experiments.tuning_report import render_tuning
from nqcast.fields import changed
from nqcast.runs.recipe import Recipe
from nqcast.storage.json_values import fingerprint
from nqcast.storage.lock import DirectoryLock
from nqcast.training.config import FREE_ON_RESUME

STORAGE = "studies.db"
_WITHOUT_EFFECT = FREE_ON_RESUME - {"epochs", "patience"}


@dataclass(frozen=True)
class Tuning:
    """Everything that shapes a study; equal parts and equal bars are the same study, which goes on where it stopped."""

    split: SplitConfig
    recipe: Recipe
    config: TuneConfig

    def run(self, features: pd.DataFrame, root: Path) -> dict[str, Any]:
        """Work below `root` until config.trials trials have ended, and tell what they found.

        A trial that a kill cut short counts as failed; its replacement goes on from its last checkpoint. So an
        interrupted study ends with the same trials as an uninterrupted one.

        Returns:
            study (name), objective, anchors (one sentence), trials [{trial, state, value, epochs, seconds,
            parameters}], configured (the objective of the configured values, None where they were not tried), best
            (its row), text. values are the least objective over a trial's epochs.

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
        optuna = load_optuna()
        splits, card = make_splits(features, self.split), data_card(features)
        name = self.name(card)
        with DirectoryLock(root):
            storage = optuna.storages.RDBStorage(f"sqlite:///{root / STORAGE}")
            try:
                pruner = self._pruner(optuna)
                study = optuna.create_study(storage=storage, study_name=name, load_if_exists=True, pruner=pruner)
                trials = Trials(self.config, self.configured(), self.distributions(optuna), optuna, study, root / name)
                trials.finish(
                    lambda parameters: self.recipe_of(parameters),
                    lambda recipe, folder, log: recipe.make(features, splits, card, folder, logger=log)[1],
                )
                rows = trials.rows()
            finally:
                storage.remove_session()
                storage.engine.dispose()
        return self._told(name, rows, _anchors(features, splits))

    def name(self, card: dict[str, Any]) -> str:
        """Name of the study: a fingerprint of the bars and of everything that shapes a trial, their number left out."""
        recipe = self.recipe.dump()
        recipe["train"] = {k: v for k, v in recipe["train"].items() if k not in _WITHOUT_EFFECT}
        config = self.config.model_dump(mode="json", exclude={"trials", "most_failures"})
        content = [card["fingerprint"], self.split.model_dump(mode="json"), recipe, config]
        return "tune_" + fingerprint(content, 12)

    def recipe_of(self, parameters: dict[str, Any]) -> Recipe:
        """The recipe of one trial; pydantic's ValidationError, a ValueError, for a combination that does not fit."""
        base, changes = self._base(), nested(parameters)
        scale, model, train = (changed(getattr(base, n), changes.get(n, {})) for n in ("scale", "model", "train"))
        return Recipe(scale, model, train, base.quantiles)

    def configured(self) -> dict[str, Any]:
        """The configured values of what is searched."""
        base = self._base()
        return {name: getattr(getattr(base, group), field) for name, group, field in _parts(self.config.space)}

    def distributions(self, optuna: Any) -> dict[str, Any]:
        """The space in Optuna's words."""
        base = self._base()
        found: dict[str, Any] = {}
        for name, group, field in _parts(self.config.space):
            p = self.config.space[name]
            if p.choices is not None:
                found[name] = optuna.distributions.CategoricalDistribution([as_choice(v) for v in p.choices])
                continue
            assert p.low is not None and p.high is not None  # checked where the space is read
            if is_whole(type(getattr(base, group)), field):
                found[name] = optuna.distributions.IntDistribution(int(p.low), int(p.high), p.log, int(p.step or 1))
            else:
                found[name] = optuna.distributions.FloatDistribution(float(p.low), float(p.high), p.log, p.step)
        return found

    def _base(self) -> Recipe:
        train = changed(self.recipe.train, {**self.config.train, "top_k": 1})
        return Recipe(self.recipe.scale, self.recipe.model, train, self.recipe.quantiles)

    def _pruner(self, optuna: Any) -> Any:
        c = self.config
        if not c.prune:
            return optuna.pruners.NopPruner()
        return optuna.pruners.MedianPruner(c.startup_trials, c.prune_from_epoch)

    def _told(self, name: str, rows: list[dict[str, Any]], anchors: str) -> dict[str, Any]:
        whole = [row for row in rows if row["state"] == "complete"]
        if not whole:
            raise ValueError(
                f"expected at least one whole trial, found {len(rows)} of which none ended: raise tune.trials or "
                "tune.startup_trials"
            )
        own = [row["value"] for row in whole if row["configured"]]
        told = {
            "study": name,
            "objective": self.config.objective,
            "anchors": anchors,
            "trials": rows,
            "best": min(whole, key=lambda row: row["value"]),
            "configured": own[0] if own else None,
        }
        return {**told, "text": render_tuning(told)}


def load_optuna() -> Any:
    """Optuna, quiet; ValueError with the cure where it is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError(
            "expected optuna to be installed, found it missing: pip install 'nqcast[tune]' (or pip install optuna)"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def _parts(space: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """Name, group and field of each parameter."""
    for name in space:
        group, field = name.split(".")
        yield name, group, field


def _anchors(features: pd.DataFrame, splits: pd.DataFrame) -> str:
    session = features["session"].iloc[positions(splits, "validation")]
    return (
        f"{len(session):,} validation anchors in {session.nunique()} sessions, {session.min():%Y-%m-%d} to "
        f"{session.max():%Y-%m-%d}"
    )

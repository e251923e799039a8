"""Hyperparameters searched by Optuna: trials are training runs, judged on validation, kept in SQLite, resumable.

<root>/studies.db                     Optuna's storage; `optuna-dashboard sqlite:///…` reads it too
<root>/<study>/trial_0003/<run>/      the trial's run directory; checkpoints go when the trial has ended
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pydantic import BaseModel

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, validation_span
from nqcast.experiments.config import TuneConfig
from nqcast.experiments.search_space import is_whole, nested
from nqcast.experiments.trials import Trials, load_optuna
from nqcast.experiments.tuning_report import Found, Parameters, Row, render_tuning
from nqcast.runs.recipe import Recipe
from nqcast.storage.checkpoint import DataCard
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.lock import DirectoryLock

if TYPE_CHECKING:
    import optuna

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
        return self._base().with_fields(**nested(parameters))

    def configured(self) -> Parameters:
        """The values that the searched parameters have without a search."""
        return {name: getattr(config, field) for name, config, field in self._searched()}

    def distributions(self) -> dict[str, optuna.distributions.BaseDistribution]:
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

"""Ablations: the configured model less one part at a time, same anchors, same seeds, judged on validation."""

from __future__ import annotations

import logging
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from nqcast.data.config import SplitConfig
from nqcast.data.fingerprint import data_card
from nqcast.data.splits import make_splits, positions, validation_span
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import fitted_quantiles
from nqcast.evaluation.config import REFERENCES, EvaluateConfig
from nqcast.evaluation.frames import targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.significance import resampled, session_sums, skill_with_interval
from nqcast.experiments.config import AblationConfig, ExperimentSettings, Variant
from nqcast.forecast.predictor import predict
from nqcast.horizons import horizons_of
from nqcast.runs.recipe import Recipe
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.json_values import Json

logger = logging.getLogger(__name__)

BASE = "base"


@dataclass(frozen=True)
class Ablation:
    """What is trained on which split; the test split is never forecast."""

    split: SplitConfig
    recipe: Recipe
    evaluate: EvaluateConfig
    config: AblationConfig

    @classmethod
    def of(cls, settings: ExperimentSettings, config: AblationConfig) -> Ablation:
        recipe = Recipe(settings.scale, settings.model, settings.train, settings.quantiles)
        return cls(settings.split, recipe, settings.evaluate, config)

    def run(self, features: pd.DataFrame, root: Path) -> Json:
        """Train every variant with every seed below `root` (a finished one is not trained again) and compare.

        Returns:
            anchors (one sentence), table {variant: {horizon or mean: {skill, gain, low, high}, parameters, by_seed}},
            text. skill is over constants; gain is the variant's less the base's, points of the same skill, with its
            session-bootstrap interval, losses averaged over the seeds; by_seed the mean gain of each seed.
        """
        splits, card = make_splits(features, self.split), data_card(features)
        validation, levels = positions(splits, "validation"), self.recipe.quantiles
        horizons = horizons_of(features.columns)
        targets, session = targets_at(features, validation, horizons), features["session"].iloc[validation]

        def session_losses(quantiles: Floats) -> Floats:
            return session_sums(metrics.anchor_loss(quantiles, targets, levels), session)

        by_seed: dict[str, list[Floats]] = {}
        parameters: dict[str, int] = {}
        variants = {BASE: Variant(), **self.config.variants}
        for name, variant in tqdm(variants.items(), desc="variants", unit="variant", disable=None):
            trained = [self._train(name, variant, seed, features, splits, card, root) for seed in self.config.seeds]
            by_seed[name] = [session_losses(predict(one, features, validation, self.evaluate)[0]) for one in trained]
            parameters[name] = _count(trained[0])
        train, seed = positions(splits, "train"), self.evaluate.seed
        references = fitted_quantiles(REFERENCES, features, train, validation, levels, seed)
        losses = {name: session_losses(quantiles) for name, quantiles in references.items()}
        table = self._table(by_seed, losses, parameters, [*horizons, MEAN])
        anchors = f"{validation_span(features, splits)}; seeds {list(self.config.seeds)}"
        return {"anchors": anchors, "table": table, "text": render_ablation(table, anchors, self.evaluate.confidence)}

    def _train(
        self, name: str, variant: Variant, seed: int, features: pd.DataFrame, splits: pd.DataFrame,
        card: DataCard, root: Path,
    ) -> Checkpoint:  # fmt: skip
        logger.info("variant %s, seed %d", name, seed)
        train = {**self.config.train, **variant.train, "seed": seed}
        recipe = self.recipe.with_fields(scale=variant.scale, model=variant.model, train=train)
        return recipe.make(features, splits, card, root / f"{name}_seed_{seed}")[0]

    def _table(
        self,
        by_seed: Mapping[str, Sequence[Floats]],
        references: Mapping[str, Floats],
        parameters: Mapping[str, int],
        columns: Sequence[str],
    ) -> Json:
        sums = {**references, **{name: np.mean(losses, axis=0) for name, losses in by_seed.items()}}
        constants, confidence = sums["constants"], self.evaluate.confidence
        resamples = resampled(len(constants), self.evaluate)
        table: Json = {}
        for name in (*by_seed, *(r for r in references if r != "constants")):
            gains = skill_with_interval(sums[name], sums[BASE], constants, resamples, confidence).named(columns)
            skills = zip(gains.items(), _skill(sums[name], constants), strict=True)
            table[name] = {column: {"skill": float(skill), **gain} for (column, gain), skill in skills}
            if name in by_seed:
                pairs = zip(by_seed[name], by_seed[BASE], strict=True)
                own = [float(_skill(a, constants)[-1] - _skill(b, constants)[-1]) for a, b in pairs]
                table[name] |= {"parameters": parameters[name], "by_seed": own}
        return table


def _skill(loss_SH: Floats, constants_SH: Floats) -> Floats:
    """Skill over constants per horizon and in the mean, (H + 1,)."""
    skill = metrics.skill(loss_SH.sum(axis=0), constants_SH.sum(axis=0))
    return np.append(skill, skill.mean())


def _count(checkpoint: Checkpoint) -> int:
    """Weights of the network, buffers left out."""
    buffers = ("base_HQ", "feature_mean_F", "feature_std_F")
    tensors = checkpoint.tensors.items()
    return sum(a.size for name, a in tensors if name.startswith("model.") and not name.endswith(buffers))


def render_ablation(table: Mapping[str, Any], anchors: str, confidence: float) -> str:
    """A line per variant, at most 80 columns: weights, mean skill, gain over the configured model, each seed's gain."""
    width = max(len(name) for name in table) + 1
    heading = (
        f"Ablations on {anchors}. Skill over constants, %, in the mean; then skill less that of the configured model "
        f"(base), points: by horizon in the file, here the mean with its {confidence:.0%} session-bootstrap interval, "
        "and of each seed."
    )
    columns = f"{'weights':>9}{'skill':>8}{'gain':>8}  interval        by seed"
    lines = [*textwrap.wrap(heading, 79), "", " " * width + columns]
    for name, row in table.items():
        mean = row[MEAN]
        interval = f"[{100 * mean['low']:+.2f},{100 * mean['high']:+.2f}]"
        seeds = " ".join(f"{100 * v:+.2f}" for v in row.get("by_seed", []))
        weights = f"{row['parameters']:,}" if "parameters" in row else "–"
        figures = f"{weights:>9}{100 * mean['skill']:>8.2f}{100 * mean['gain']:>+8.2f}"
        lines.append(f"{name.replace('_', ' '):<{width}}{figures}  {interval:<15} {seeds}".rstrip())
    return "\n".join(lines)

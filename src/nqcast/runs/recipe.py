"""What a forecaster is made by: settings that agree with each other, some chosen by how much data there is."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import pandas as pd

from nqcast.data.config import ScaleConfig
from nqcast.data.own_features import feature_names
from nqcast.data.scale import Scale
from nqcast.data.seasonal_har import make_scale
from nqcast.data.splits import positions
from nqcast.fields import changed
from nqcast.model.config import ModelConfig
from nqcast.runs.run import TrainingRun
from nqcast.runs.train import Trained, train
from nqcast.spacing import Spacing
from nqcast.storage.checkpoint import Checkpoint, DataCard
from nqcast.storage.json_values import Json
from nqcast.training.config import WITHOUT_EFFECT, TrainConfig
from nqcast.training.loggers import Logger

logger = logging.getLogger(__name__)

MANY = 200_000  # train anchors of five minutes, some three years
WIDE = 128  # of the direct path, where there is enough to learn from
MEMBERS = 3  # networks, where there are so many anchors; each trains in a minute or two
FEWEST_WINDOWS = 32_768
PASSES = 2.0  # over the train anchors in all epochs together
FIVE_MINUTES = Spacing()


def choose(
    model: ModelConfig,
    train: TrainConfig,
    anchors: int,
    spacing: Spacing = FIVE_MINUTES,
    long_memory: bool | Literal["auto"] = "auto",
) -> tuple[ModelConfig, TrainConfig]:
    """Both settings with every auto decided by the number of train anchors; one line of the log says what and why.

    model.tokens: the direct path alone, wider from some three years of bars on. It looks at the newest bars only, so
    its windows hold no more. Attention beside long memory is for whoever asks for it (docs/log.md).
    train.members: three networks from some three years of bars on, whose mean gains a twelfth more; one on fewer.
    train.refit: trained once more, on validation too, from as many on: newer sessions are worth more than a long
    validation (docs/log.md).
    train.horizon_weights: root from as many on, where it holds up years later; on a year or two it gives nothing.
    train.windows_per_epoch: so many that all epochs together see each anchor twice, but never less than 32,768.
    long_memory: whether the fitted scale has it, which sessions have decided; the line says that beside the rest.
    """
    said: list[str] = []
    enough = spacing.rows(MANY)
    if model.tokens == "auto":
        many, newest = anchors >= enough, max(model.recent_bars)
        width = max(model.recent_width, WIDE) if many else model.recent_width
        fields = {"tokens": False, "recent_width": width, "context": newest, "patch_length": newest}
        model = changed(model, fields)
        relation = "at least" if many else "fewer than"
        said.append(f"the direct path alone, {width} wide, since they are {relation} {enough:,} (model.tokens=auto)")
    if train.windows_per_epoch == "auto":
        windows = max(FEWEST_WINDOWS, round(PASSES * anchors / max(train.epochs, 1)))
        train = changed(train, {"windows_per_epoch": windows})
        said.append(f"{train.epochs} epochs of {min(windows, anchors):,} windows (train.windows_per_epoch=auto)")
    if train.members == "auto":
        train = changed(train, {"members": MEMBERS if anchors >= enough else 1})
        said.append(f"{train.members} network{'s' if train.members != 1 else ''} (train.members=auto)")
    if train.refit == "auto":
        train = changed(train, {"refit": anchors >= enough})
        said.append(f"trained {'once more, on validation too' if train.refit else 'once'} (train.refit=auto)")
    if train.horizon_weights == "auto":
        train = changed(train, {"horizon_weights": "root" if anchors >= enough else "equal"})
        said.append(f"weights of the horizons {train.horizon_weights} (train.horizon_weights=auto)")
    if said and long_memory != "auto":
        said.append(f"{'told' if long_memory else 'not told'} of sessions long before (scale.long_memory)")
    if said:
        logger.info("chosen for %s train anchors: %s", f"{anchors:,}", "; ".join(said))
    return model, train


def agreed(model: ModelConfig, train: TrainConfig, scale: Scale, n_features: int) -> tuple[ModelConfig, TrainConfig]:
    """Both configurations with the levels, horizons, spacing and start of the fitted scale: one source for all.

    Raises:
        ValueError: model.n_volatility asks for more or fewer predictors than the scale has.
    """
    known = scale.n_state
    if model.n_volatility not in (None, 0, known):
        raise ValueError(
            f"expected model.n_volatility of 0 or {known}, which this scale has, found {model.n_volatility}; "
            "leave it out"
        )
    wanted = known if model.n_volatility is None else model.n_volatility
    levels, count = scale.levels, len(scale.horizons)
    own = {"quantiles": levels, "n_horizons": count, "n_features": n_features, "n_volatility": wanted}
    loop = {"quantiles": levels, "horizons": scale.horizons, "start_name": scale.config.kind}
    return changed(model.at(scale.spacing), own), changed(train, loop)


def run_anew(
    checkpoint: Checkpoint,
    features: pd.DataFrame,
    splits: pd.DataFrame,
    data_card: DataCard,
    warm_start: Checkpoint | None,
    **fields: object,
) -> TrainingRun:
    """The run by a checkpoint's own settings but for `fields` of train.*, on other splits, its scale fitted anew."""
    known = checkpoint.metadata
    scale, loop = ScaleConfig(**known.scale["config"]), changed(TrainConfig(**known.train), fields)
    recipe = Recipe(scale, ModelConfig(**known.model), loop, known.quantiles)
    return recipe.run(features, splits, data_card, warm_start)


@dataclass(frozen=True)
class Recipe:
    """Scale, model and training settings, applied to one split after another."""

    scale: ScaleConfig
    model: ModelConfig
    train: TrainConfig
    quantiles: tuple[float, ...]

    def make(
        self,
        features: pd.DataFrame,
        splits: pd.DataFrame,
        data_card: DataCard,
        root: Path,
        warm_start: Checkpoint | None = None,
        logger: Logger | None = None,
    ) -> Trained:
        """Fit the scale, train below `root`; returns the checkpoint artifact and the history, one dict per epoch.

        `logger` has log(dict, step=…), called after every epoch.
        """
        return train(self.run(features, splits, data_card, warm_start), root, logger)

    def run(
        self,
        features: pd.DataFrame,
        splits: pd.DataFrame,
        data_card: DataCard,
        warm_start: Checkpoint | None = None,
        fitted: Scale | None = None,
    ) -> TrainingRun:
        """The training run on one split; `fitted` is its scale, where that is there already."""
        anchors = positions(splits, "train")
        scale = fitted or make_scale(self.scale, self.quantiles).fit(features, anchors)
        chosen = choose(self.model, self.train, len(anchors), scale.spacing, scale.config.long_memory)
        configs = agreed(*chosen, scale, len(feature_names(features)))
        return TrainingRun(features, splits, scale, data_card, *configs, warm_start)

    def with_fields(self, **groups: Mapping[str, object]) -> Recipe:
        """The recipe with other fields of scale, model and train, checked; ValueError for what does not fit."""
        return replace(self, **{name: changed(getattr(self, name), fields) for name, fields in groups.items()})

    @property
    def content(self) -> Json:
        """The settings that have an effect on what is learnt, as JSON-able values."""
        train = self.train.model_dump(mode="json", exclude=set(WITHOUT_EFFECT))
        parts = {name: getattr(self, name).model_dump(mode="json") for name in ("scale", "model")}
        return {**parts, "train": train, "levels": list(self.quantiles)}

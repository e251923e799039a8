"""What a forecaster is made by: scale, model and training settings that agree with each other, on any splits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from nqcast.data.config import ScaleConfig
from nqcast.data.own_features import feature_names
from nqcast.data.scale import ScaleState
from nqcast.data.seasonal_har import make_scale, scale_from_state
from nqcast.data.splits import positions
from nqcast.fields import changed
from nqcast.model.config import ModelConfig
from nqcast.runs.chosen import choose
from nqcast.runs.run import TrainingRun
from nqcast.runs.train import Trained, train
from nqcast.storage.checkpoint import Checkpoint, DataCard, Json
from nqcast.training.config import TrainConfig
from nqcast.training.loggers import Logger


def scale_state(
    features: pd.DataFrame, splits: pd.DataFrame, config: ScaleConfig, levels: tuple[float, ...]
) -> ScaleState:
    """The scale fitted on the train anchors alone."""
    arrays, scalars = make_scale(config, levels).fit(features, positions(splits, "train")).state()
    return {"arrays": arrays, "scalars": scalars}


def agreed(
    model: ModelConfig, train: TrainConfig, levels: tuple[float, ...], scale: ScaleState, n_features: int
) -> tuple[ModelConfig, TrainConfig]:
    """Both configurations with the levels, horizons, features, scale and start of the run: one source for all.

    Raises:
        ValueError: model.n_volatility asks for more or fewer predictors than the fitted scale has.
    """
    fitted = scale_from_state(scale["arrays"], scale["scalars"])
    known, horizons = fitted.n_state, fitted.horizons
    if model.n_volatility not in (None, 0, known):
        raise ValueError(
            f"expected model.n_volatility of 0 or {known}, which this scale has, found {model.n_volatility}; "
            "leave it out"
        )
    wanted = known if model.n_volatility is None else model.n_volatility
    own = {"quantiles": levels, "n_horizons": len(horizons), "n_features": n_features, "n_volatility": wanted}
    loop = {"quantiles": levels, "horizons": horizons, "start_name": scale["scalars"]["config"]["kind"]}
    return changed(model, own), changed(train, loop)


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
        state = scale_state(features, splits, self.scale, self.quantiles)
        chosen = choose(self.model, self.train, len(positions(splits, "train")))
        configs = agreed(*chosen, self.quantiles, state, len(feature_names(features)))
        return train(TrainingRun(features, splits, state, data_card, *configs, warm_start), root, logger)

    def dump(self) -> Json:
        """All settings as JSON-able values."""
        parts = {"scale": self.scale, "model": self.model, "train": self.train}
        return {name: part.model_dump(mode="json") for name, part in parts.items()} | {"levels": list(self.quantiles)}

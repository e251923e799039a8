"""What the report is made from: forecasts of every kind on the same anchors, and the figures that sections share."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.data.splits import positions
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines import baseline_quantiles
from nqcast.evaluation.calibration import CONFORMAL, ONLINE, quantiles_by_row
from nqcast.evaluation.comparison import MODEL, reference_of
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, Positions, as_arrays
from nqcast.evaluation.judged import perfect_volatility
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import Estimate, Overlap, overlaps, resampled, session_sums, skill_with_interval
from nqcast.storage.checkpoint import Metadata


@dataclass(frozen=True)
class Evidence:
    """Forecasts of the test split, the features that they were made from, and the metadata of their checkpoint.

    predictions: the model's frame; train: positions of the train anchors; forecasts: quantiles (N, H, Q) of every
    baseline, then of the model and of its calibrated rows; oracle: those of the scale that knows what came.
    """

    predictions: pd.DataFrame
    features: pd.DataFrame
    train: Positions
    metadata: Metadata
    config: EvaluateConfig
    forecasts: dict[str, Floats]
    oracle: Floats

    @classmethod
    def gather(
        cls,
        predictions: pd.DataFrame,
        calibrated: pd.DataFrame | None,
        features: pd.DataFrame,
        splits: pd.DataFrame,
        metadata: Metadata,
        config: EvaluateConfig,
    ) -> Evidence:
        """Fit the baselines on the train anchors and put them beside the model's rows, on the same anchors."""
        levels, train = tuple(metadata.quantiles), positions(splits, "train")
        own = as_arrays(predictions, levels, tuple(metadata.horizons))
        forecasts = baseline_quantiles(features, train, own.ts, levels, config)
        forecasts[MODEL] = own.quantiles
        if calibrated is not None:
            forecasts |= quantiles_by_row(calibrated, levels)
        oracle = perfect_volatility(features, train, own.ts, levels)
        return cls(predictions, features, train, metadata, config, forecasts, oracle)

    @property
    def levels(self) -> tuple[float, ...]:
        return self.metadata.quantiles

    @property
    def horizons(self) -> tuple[str, ...]:
        return self.metadata.horizons

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        return overlaps(self.horizons, self.features["ts"])

    @property
    def source(self) -> str:
        """Where the bars come from: a file's name, or the simulated market; empty where nothing says so."""
        return self.metadata.data.source

    @property
    def reference(self) -> str:
        """The baseline that the model has to beat."""
        return reference_of(self.forecasts)

    @cached_property
    def anchors(self) -> Forecasts:
        return as_arrays(self.predictions, self.levels, self.horizons)

    @cached_property
    def positions(self) -> Positions:
        return np.asarray(pd.Index(self.features["ts"]).get_indexer(pd.Index(self.anchors.ts)), dtype=np.int64)

    @property
    def model_rows(self) -> list[str]:
        """The model, raw and calibrated."""
        return [name for name in (MODEL, CONFORMAL, ONLINE) if name in self.forecasts]

    @cached_property
    def losses(self) -> dict[str, Floats]:
        """Pinball loss (N, H) of every forecast."""
        return {k: metrics.anchor_loss(q, self.anchors.targets, self.levels) for k, q in self.forecasts.items()}

    @cached_property
    def resamples(self) -> NDArray[np.int64]:
        return resampled(self.anchors.session.nunique(), self.config)

    def skill(self, name: str, over: str) -> Estimate:
        """Skill of ``name`` less that of ``over``, both against constants, with its interval."""
        sums = {k: session_sums(self.losses[k], self.anchors.session) for k in {name, over, "constants"}}
        return skill_with_interval(sums[name], sums[over], sums["constants"], self.resamples, self.config.confidence)

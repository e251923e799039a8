"""What the report is made from, and the figures that several of its sections share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nqcast.constants import BAR_MINUTES, HORIZONS
from nqcast.evaluation import metrics
from nqcast.evaluation.baselines.fitted import baseline_quantiles
from nqcast.evaluation.calibration import CONFORMAL, ONLINE, quantiles_by_row
from nqcast.evaluation.comparison import MODEL
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Forecasts, Positions, as_arrays
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.significance import Estimate, session_sums, skill_with_interval, stationary_bootstrap
from nqcast.storage.checkpoint import Metadata

REFERENCE = "seasonal_har"


@dataclass(frozen=True)
class Evidence:
    """Artifacts of one run: predictions and features frames, train positions, the checkpoint's metadata, the training
    history, the count of test uses, the configuration, and, where there are any, the calibrated forecasts
    (`calibrated.calibrated_frame`) and what the network uses (`explain.explain`); everything else follows from them.
    """

    predictions: pd.DataFrame
    features: pd.DataFrame
    train: Positions
    metadata: Metadata
    history: Sequence[dict[str, Any]]
    test_uses: int
    config: EvaluateConfig
    calibrated: pd.DataFrame | None = None
    explanation: dict[str, Any] | None = None

    @property
    def levels(self) -> tuple[float, ...]:
        return self.metadata.quantiles

    @property
    def horizons(self) -> tuple[str, ...]:
        return self.metadata.horizons

    @property
    def horizon_bars(self) -> tuple[int, ...]:
        return tuple(HORIZONS[name] // BAR_MINUTES for name in self.horizons)

    @property
    def reference(self) -> str:
        """The baseline that the model has to beat: SeasonalHAR, or the last one that was fitted."""
        return REFERENCE if REFERENCE in self.forecasts else self.config.baseline_names[-1]

    @cached_property
    def anchors(self) -> Forecasts:
        return as_arrays(self.predictions, self.levels, self.horizons)

    @cached_property
    def positions(self) -> Positions:
        return np.asarray(pd.Index(self.features["ts"]).get_indexer(pd.Index(self.anchors.ts)), dtype=np.int64)

    @cached_property
    def forecasts(self) -> dict[str, Floats]:
        """Quantiles (N, H, Q) of every baseline, then of the model and of its calibrated rows."""
        baselines = baseline_quantiles(self.features, self.train, self.anchors.ts, self.levels, self.config)
        calibrated = {} if self.calibrated is None else quantiles_by_row(self.calibrated, self.levels)
        return {**baselines, MODEL: self.anchors.quantiles, **calibrated}

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
        rng = np.random.default_rng(self.config.seed)
        sessions = self.anchors.session.nunique()
        return stationary_bootstrap(sessions, self.config.mean_block, self.config.bootstrap_replications, rng)

    def skill(self, name: str, over: str) -> Estimate:
        """Skill of ``name`` less that of ``over``, both against constants, with its interval."""
        sums = {k: session_sums(self.losses[k], self.anchors.session) for k in {name, over, "constants"}}
        return skill_with_interval(sums[name], sums[over], sums["constants"], self.resamples, self.config.confidence)

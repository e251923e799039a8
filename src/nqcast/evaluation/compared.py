"""Forecasts of several kinds at the same anchors: the one object that tables, tests and the report are read off."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nqcast.evaluation import metrics
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import CONFORMAL, MODEL, ONLINE, Forecasts
from nqcast.evaluation.metrics import Floats
from nqcast.evaluation.scores import MEAN
from nqcast.evaluation.significance import Estimate, resampled, session_sums, skill_with_interval

ROWS = (MODEL, CONFORMAL, ONLINE)
REFERENCE = "seasonal_har"


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What is compared, and the losses by which it is.

    anchors: stamps, sessions, targets and scale of the N anchors; forecasts: quantiles (N, H, Q) by name, the baselines
    ("constants" among them), then "model" and its calibrated rows where there are any; config: how intervals are drawn;
    oracle: quantiles of a scale that knows the volatility that came (`judged.perfect_volatility`), a ceiling and never
    a row of the table, None where there is none.
    """

    anchors: Forecasts
    forecasts: Mapping[str, Floats]
    config: EvaluateConfig
    oracle: Floats | None = None

    @property
    def columns(self) -> list[str]:
        """The horizons, and their mean."""
        return [*self.anchors.horizons, MEAN]

    @property
    def baselines(self) -> list[str]:
        return [name for name in self.forecasts if name not in ROWS]

    @property
    def reference(self) -> str:
        """The baseline that the model has to beat: SeasonalHAR, or the last one that was fitted."""
        return REFERENCE if REFERENCE in self.baselines else self.baselines[-1]

    @property
    def model_rows(self) -> dict[str, Floats]:
        """The model, raw and calibrated."""
        return {name: self.forecasts[name] for name in ROWS if name in self.forecasts}

    @cached_property
    def losses(self) -> dict[str, Floats]:
        """Pinball loss (N, H) of every forecast."""
        anchors = self.anchors
        return {k: metrics.anchor_loss(q, anchors.targets, anchors.levels) for k, q in self.forecasts.items()}

    @cached_property
    def by_session(self) -> dict[str, Floats]:
        """Losses (S, H) of every forecast, summed over sessions."""
        return {name: session_sums(loss_NH, self.anchors.session) for name, loss_NH in self.losses.items()}

    @cached_property
    def resamples(self) -> NDArray[np.int64]:
        return resampled(self.anchors.session.nunique(), self.config)

    def skill(self, name: str, over: str) -> Estimate:
        """Skill of ``name`` less that of ``over``, both against constants, with its interval."""
        own, other, constants = (self.by_session[k] for k in (name, over, "constants"))
        return skill_with_interval(own, other, constants, self.resamples, self.config.confidence)

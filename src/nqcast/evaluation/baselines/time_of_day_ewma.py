"""Time of day × EWMA: the diurnal profile times one exponential average of squared returns (half-life 12 bars)."""

from __future__ import annotations

from nqcast.evaluation.baselines.scale_family import ScaleFamily


class TimeOfDayEwma(ScaleFamily):
    """What a practitioner writes in an afternoon: one deseasonalised average, an hour long."""

    predictors = "ewma12"

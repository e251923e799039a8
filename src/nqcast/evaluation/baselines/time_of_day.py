"""Time of day: the diurnal volatility profile times the train quantiles of return / profile."""

from __future__ import annotations

from nqcast.evaluation.baselines.scale_family import ScaleFamily


class TimeOfDay(ScaleFamily):
    """Knows the clock and nothing of the market; every gain beyond it is knowledge of the present volatility."""

    predictors = "none"

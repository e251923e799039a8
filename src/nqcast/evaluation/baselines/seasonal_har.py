"""SeasonalHAR: the scale under the model, by itself (realised variance from 1-minute bars, and ranges)."""

from __future__ import annotations

from nqcast.evaluation.baselines.scale_family import ScaleFamily


class SeasonalHar(ScaleFamily):
    """What the network starts from; its skill over this is what the network adds."""

    predictors = "realized"

"""Log-HAR on 5-minute returns: the profile times a fitted blend of averages of squared 5-minute returns."""

from __future__ import annotations

from nqcast.evaluation.baselines.scale_family import ScaleFamily


class LogHar(ScaleFamily):
    """The heterogeneous autoregression of Corsi (2009) in logs, blind to what happens inside a bar."""

    predictors = "returns"

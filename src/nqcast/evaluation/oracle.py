"""The ceiling: a scale that knows the volatility that came. It looks ahead, so it is no forecast and no baseline."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from nqcast.data.targets import realized_volatility
from nqcast.evaluation.baselines.base import empirical_quantiles
from nqcast.evaluation.frames import Positions, targets_at
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizons_of

ORACLE = "oracle_volatility"
"""Its row in a frame of forecasts."""
_FLOOR = 1e-6  # return units; bars without a move have no volatility


def perfect_volatility(features: pd.DataFrame, train: Positions, ts: pd.Series, levels: Sequence[float]) -> Floats:
    """Quantiles (N, H, Q) at the anchors `ts`: the horizon's realized volatility times train quantiles of y / that."""
    scale_NH = np.maximum(np.nan_to_num(realized_volatility(features)), _FLOOR)
    unit_HQ = empirical_quantiles(targets_at(features, train, horizons_of(features.columns)) / scale_NH[train], levels)
    return scale_NH[pd.Index(features["ts"]).get_indexer(pd.Index(ts))][:, :, None] * unit_HQ

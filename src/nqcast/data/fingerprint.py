"""One short name for the content of a table, so that a checkpoint can say what it was trained on."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd


def fingerprint(frame: pd.DataFrame) -> str:
    """First 16 hexadecimal digits of the SHA-256 of column names, dtypes and every value of `frame`."""
    digest = hashlib.sha256(repr([(name, str(dtype)) for name, dtype in frame.dtypes.items()]).encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def data_card(features: pd.DataFrame, instrument: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a checkpoint says of its data: the content's fingerprint, rows, tick, source, first and last stamp (UTC).

    `instrument` is the row of its product, by whose calendar forecasts are made.
    """
    first, last = features["ts"].iloc[0], features["ts"].iloc[-1]
    card = {"fingerprint": fingerprint(features), "rows": len(features), "tick": tick_of(features)}
    card |= {} if instrument is None else {"instrument": instrument}
    card["source"] = features.attrs.get("source", "")
    return card | {"first": f"{first:%Y-%m-%d %H:%M}", "last": f"{last:%Y-%m-%d %H:%M}"}


def tick_of(features: pd.DataFrame) -> float | None:
    """The price step that floors the logs of a feature table (points), read from it; None where every bar has a range.

    A bar without a range has the floor itself as its volatility: ln(half a tick / price).
    """
    flat = np.flatnonzero(features["log_range"].to_numpy() == 0)
    if not len(flat):
        return None
    row = features.iloc[int(flat[-1])]
    return float(f"{2 * row['raw_close'] * np.exp(row['gk_volatility']):.9g}")

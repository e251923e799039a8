"""One short name for the content of a table, so that a checkpoint can say what it was trained on."""

import numpy as np
import pandas as pd

from nqcast.storage.checkpoint import DataCard
from nqcast.storage.fingerprint import digest
from nqcast.storage.json_values import Json


def fingerprint(frame: pd.DataFrame) -> str:
    """First 16 hexadecimal digits of the SHA-256 of column names, dtypes and every value of `frame`."""
    columns = repr([(name, str(dtype)) for name, dtype in frame.dtypes.items()]).encode()
    return digest([columns, pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes()], 16)


def require_trained_on(features: pd.DataFrame, wanted: str) -> None:
    """Raise ValueError for another table than that of fingerprint `wanted`: positions of its splits are rows of it."""
    if (found := fingerprint(features)) != wanted:
        raise ValueError(
            f"expected the features that the checkpoint was trained on (content {wanted}), found others ({found}): "
            "name their version with --load-versions features:VERSION (and splits:VERSION), or, as after an update, "
            "which keeps none, run ingest,features,train on all bars"
        )


def data_card(features: pd.DataFrame, instrument: Json | None = None) -> DataCard:
    """What a checkpoint says of its data; `instrument` is the row of its product, by whose calendar it forecasts.

    Without one it is what travels with the table.
    """
    instrument = instrument or product_of(features).get("instrument")
    first, last = (f"{features['ts'].iloc[row]:%Y-%m-%d %H:%M}" for row in (0, -1))
    source = features.attrs.get("source", "")
    return DataCard(fingerprint(features), len(features), tick_of(features), instrument, source, first, last)


def product_of(table: pd.DataFrame) -> Json:
    """What bars or features say of their product: the row of its `instrument`, and its `tick`; {} where they do not."""
    return dict(table.attrs.get("product", {}))


def require_tick(features: pd.DataFrame) -> float:
    """The price step of a feature table (points); ValueError where the table does not tell it."""
    tick = tick_of(features)
    if tick is None:
        raise ValueError("expected features that tell the price step of their bars, found none: run ingest,features")
    return tick


def tick_of(features: pd.DataFrame) -> float | None:
    """The price step that floors the logs of a feature table (points).

    A table that does not say it, and whose bars all have a range, has None.

    A bar without a range has the floor itself as its volatility: ln(half a tick / price).
    """
    if said := product_of(features).get("tick"):
        return float(said)
    flat = np.flatnonzero(features["log_range"].to_numpy() == 0)
    if not len(flat):
        return None
    row = features.iloc[int(flat[-1])]
    return float(f"{2 * row['raw_close'] * np.exp(row['gk_volatility']):.9g}")

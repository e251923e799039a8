"""The latest sessions of a feature table, as a checkpoint keeps them.

A forecast from some weeks of bars is to be the one that was scored, whose averages and rolling quantiles reach back
half a year. The rows that the scale reads are kept with the weights and put before the bars of a forecast; the network
itself sees none of them.
"""

import numpy as np
import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import ScaleConfig
from nqcast.horizons import horizons, horizons_of, target_names

HALF_YEAR = 120
"""Sessions: the reach of the long memory."""
GAP = pd.Timedelta(days=30)
"""Longest time between the kept rows and the bars of a forecast; older ones tell of another market."""

_FLAGS = ("traded", "halt", "session_first", "halts")
_NUMBERS = ("realized_variance", "log_range", "log_return", "open_return", "gap_minutes", "bars_to_close")

Arrays = dict[str, np.ndarray]


def reach(config: ScaleConfig) -> int:
    """Sessions that a scale of this configuration looks back."""
    rolling = config.rolling_sessions if config.rolling_quantiles else 0
    if config.kind == "constant":
        return rolling
    return HALF_YEAR if config.long_memory else max(rolling, HALF_YEAR // 2)


def trailing_rows(features: pd.DataFrame, config: ScaleConfig) -> Arrays:
    """The rows of the latest `reach` sessions, by column, as small as they can be.

    None where the scale needs none, and where a horizon ends at the close or over the break, for which more is read.
    """
    if not all(one.by_clock for one in horizons(horizons_of(features.columns))):
        return {}
    session = np.cumsum(features["session_first"].to_numpy(bool))
    rows = features[session > session[-1] - reach(config)]
    if not len(rows):
        return {}
    kept = {name: rows[name].to_numpy(np.uint8) for name in _FLAGS}
    kept |= {name: rows[name].to_numpy(np.float32) for name in (*_NUMBERS, *target_names(rows.columns))}
    kept["bar_in_day"] = rows["bar_in_day"].to_numpy(np.int16)
    kept["session"] = rows["session"].to_numpy().astype("datetime64[D]").astype(np.int32)
    return kept | {"ts": utc_nanoseconds(rows["ts"]).astype(np.int64)}


def check_trailing(kept: Arrays) -> None:
    """Raise ValueError unless these are columns that `trailing_rows` has made."""
    expected = {*_FLAGS, *_NUMBERS, *target_names(kept), "bar_in_day", "session", "ts"}
    lengths = {array.shape for array in kept.values()}
    if kept.keys() != expected or len(lengths) != 1 or (np.diff(kept["ts"]) <= 0).any():
        raise ValueError(
            f"expected the kept rows of the latest sessions as {len(expected)} columns of one length in time order, "
            f"found {len(kept)} of lengths {sorted(lengths)}: take another checkpoint, or train this one again"
        )


def behind(features: pd.DataFrame, kept: Arrays, context: int) -> tuple[pd.DataFrame, int]:
    """`features` with the kept rows that lie before them, and by how many rows theirs have moved.

    A table may begin within a session; where that one was kept, it is taken from there. Nothing is put before a table
    that begins earlier, or more than `GAP` after the last kept row, or whose window would hold kept rows.
    """
    if not kept or not kept.keys() <= set(features.columns):
        return features, 0
    ts, day = kept["ts"], features["session"].to_numpy().astype("datetime64[D]").astype(np.int64)
    begin = pd.Timestamp(features["ts"].iloc[0])
    with_first = kept["session"] <= day[0]
    dropped = int((day == day[0]).sum()) if (kept["session"] == day[0]).any() else 0
    taken = {name: array[with_first] for name, array in kept.items()}
    late = not len(taken["ts"]) or begin - pd.Timestamp(int(taken["ts"][-1]), tz="UTC") > GAP
    if late or int(ts[0]) >= begin.value or len(features) - dropped < context:
        return features, 0
    rest = features.iloc[dropped:]
    return pd.concat([_as_rows(taken, rest), rest], ignore_index=True), len(taken["ts"]) - dropped


def _as_rows(kept: Arrays, like: pd.DataFrame) -> pd.DataFrame:
    """Kept columns with the types of a feature table; what was not kept is 0, or absent."""
    known = {
        **{name: kept[name].astype(bool) for name in _FLAGS},
        **{name: kept[name].astype(float) for name in (*_NUMBERS, *target_names(kept))},
        "bar_in_day": kept["bar_in_day"],
        "session": kept["session"].astype("datetime64[D]"),
        "ts": pd.to_datetime(kept["ts"], utc=True),
    }
    empty = {name: 0 for name, kind in like.dtypes.items() if pd.api.types.is_numeric_dtype(kind)}
    columns = {name: known.get(name, empty.get(name, pd.NA)) for name in like.columns}
    return pd.DataFrame(columns, index=np.arange(len(kept["ts"]))).astype(like.dtypes.to_dict())

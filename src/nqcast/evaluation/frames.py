"""The predictions frame: one row per (anchor, horizon), and its arrays.

Columns: ts, session, horizon, target, q05 … q95, scale; targets, quantiles and scale in log-return units.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nqcast.constants import LEVELS
from nqcast.data.clock import utc_nanoseconds
from nqcast.evaluation.metrics import Floats, level_name
from nqcast.horizons import DEFAULT, in_order

Positions = NDArray[np.int64]
_ROUNDING = 1e-9  # log return; other rolls after them scale the prices of the same bars

MODEL, CONFORMAL, ONLINE = "model", "model_conformal", "model_online"
"""Whose forecasts a frame holds, by its column `forecast`: the network's, raw and calibrated; else a baseline's."""


@dataclass(frozen=True)
class FrameStream:
    """One table as frames that are made while they are read; every reading makes them anew.

    Not an iterator: Kedro would save each of those frames as an artifact of its own.
    """

    make: Callable[[], Iterator[pd.DataFrame]]

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return self.make()


@dataclass(frozen=True)
class Forecasts:
    """A predictions frame as arrays, in log-return units.

    ts and session of the N anchors; targets (N, H), NaN where undefined; quantiles (N, H, Q); scale (N, H); the names
    of the horizons, and the levels.
    """

    ts: pd.Series
    session: pd.Series
    targets: Floats
    quantiles: Floats
    scale: Floats
    horizons: tuple[str, ...] = DEFAULT
    levels: tuple[float, ...] = LEVELS

    @property
    def level_names(self) -> list[str]:
        """q05 … q95."""
        return [level_name(tau) for tau in self.levels]


def horizons_in(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The horizons of a predictions frame, from the shortest to the longest."""
    return in_order(map(str, predictions["horizon"].unique()))


def rows_of(ts: pd.Series, features: pd.DataFrame) -> Positions:
    """Rows of the features at which the anchors stand; ValueError where one is none of them."""
    found = pd.Index(features["ts"]).get_indexer(pd.Index(ts))
    if (found < 0).any():
        raise ValueError(
            f"expected every anchor among the features, found {(found < 0).sum()} that are not: "
            "use the features that the forecasts were made from"
        )
    return np.asarray(found, dtype=np.int64)


def require_outcomes_of(features: pd.DataFrame, predictions: pd.DataFrame) -> None:
    """Raise ValueError for a predictions frame whose outcomes are others than those in the features at its anchors."""
    for name, part in predictions.groupby("horizon", sort=False):
        own = targets_at(features, rows_of(part["ts"], features), [str(name)])[:, 0]
        apart = np.abs(part["target"].to_numpy(dtype=float) - own) > _ROUNDING  # an outcome may have come meanwhile
        if apart.any():
            raise ValueError(
                f"expected the features that the forecasts were made from, found other outcomes at {apart.sum():,} of "
                f"{len(own):,} anchors {name} ahead: name their version with --load-versions features:VERSION, or "
                "forecast again from these"
            )


def targets_at(features: pd.DataFrame, positions: Positions, horizons: Sequence[str]) -> Floats:
    """Targets (N, H) of the anchors in log-return units, NaN where undefined."""
    columns = [features[f"target_{name}"].to_numpy(dtype=float)[positions] for name in horizons]
    return np.stack(columns, axis=1)


def predictions_frame(
    features: pd.DataFrame,
    positions: Positions,
    quantiles_NHQ: ArrayLike,
    scale_NH: ArrayLike,
    levels: Sequence[float],
    horizons: Sequence[str],
) -> pd.DataFrame:
    """Long frame of forecasts, sorted by anchor and then by horizon; ``scale_NH`` is of the anchors alone."""
    quantiles, scale = np.asarray(quantiles_NHQ, dtype=float), np.asarray(scale_NH, dtype=float)
    expected = (len(positions), len(horizons), len(levels))
    if quantiles.shape != expected or scale.shape != expected[:2]:
        raise ValueError(
            f"expected quantiles {expected} and scale {expected[:2]}, found {quantiles.shape} and {scale.shape}: "
            "forecast the anchors that are asked for, each once"
        )
    rows = np.repeat(positions, len(horizons))
    frame = pd.DataFrame({name: features[name].array.take(rows) for name in ("ts", "session")})
    names = pd.array(list(horizons), dtype="string")
    frame["horizon"] = names.take(np.tile(np.arange(len(horizons)), len(positions)))
    frame["target"] = targets_at(features, positions, horizons).ravel()
    for i, tau in enumerate(levels):
        frame[level_name(tau)] = quantiles[:, :, i].ravel()
    frame["scale"] = scale.ravel()
    return frame


def level_columns(frame: pd.DataFrame) -> dict[float, str]:
    """Level and name of each column of quantiles, rising: q05 is 0.05, q025 is 0.025."""
    names = [name for name in map(str, frame.columns) if re.fullmatch(r"q\d{2,}", name)]
    return dict(sorted((float(f"0.{name[1:]}"), name) for name in names))


def levels_of(predictions: pd.DataFrame) -> tuple[float, ...]:
    """The levels of a predictions frame, rising."""
    return tuple(level_columns(predictions))


def as_arrays(predictions: pd.DataFrame, levels: Sequence[float], horizons: Sequence[str]) -> Forecasts:
    """Arrays of a predictions frame, anchors in time order; ValueError when one lacks a horizon or has it twice."""
    names = [level_name(tau) for tau in levels]
    missing = [c for c in ["ts", "session", "horizon", "target", *names, "scale"] if c not in predictions.columns]
    if missing:
        raise ValueError(f"expected a predictions frame, found no column {missing}: forecast again with `evaluate`")
    frame, h = in_anchor_order(predictions, horizons), len(horizons)
    n, stamp, name = frame["ts"].nunique(), utc_nanoseconds(frame["ts"]), frame["horizon"].to_numpy()
    twice = (stamp[1:] == stamp[:-1]) & (name[1:] == name[:-1])
    if len(frame) != n * h or twice.any():
        raise ValueError(
            f"expected each anchor once per horizon, found {len(frame)} rows for {n} anchors: forecast again"
        )
    first = frame.iloc[::h].reset_index(drop=True)
    return Forecasts(
        ts=first["ts"],
        session=first["session"],
        targets=frame["target"].to_numpy(dtype=float).reshape(n, h),
        quantiles=frame[names].to_numpy(dtype=float).reshape(n, h, len(levels)),
        scale=frame["scale"].to_numpy(dtype=float).reshape(n, h),
        horizons=tuple(horizons),
        levels=tuple(levels),
    )


def in_anchor_order(predictions: pd.DataFrame, horizons: Sequence[str]) -> pd.DataFrame:
    """Rows by time and then by horizon; ValueError where one is of another horizon."""
    place = predictions["horizon"].map({name: h for h, name in enumerate(horizons)})
    if place.isna().any():
        raise ValueError(
            f"expected horizons {list(horizons)}, found {sorted(predictions['horizon'].unique())}: "
            "score with the horizons that were forecast"
        )
    rows = np.lexsort([place.to_numpy(), utc_nanoseconds(predictions["ts"])])
    ordered = predictions if (np.diff(rows) == 1).all() else predictions.iloc[rows]  # a copy only where it is needed
    return ordered.reset_index(drop=True)

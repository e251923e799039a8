"""The predictions frame: one row per (anchor, horizon), and its arrays.

Columns: ts, session, horizon, target, q05 … q95, scale; targets, quantiles and scale in log-return units.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from nqcast.evaluation.metrics import Floats, level_name
from nqcast.horizons import DEFAULT, in_order

Positions = NDArray[np.int64]


class FrameStream:
    """One table as frames that are made while they are read; every reading makes them anew.

    Not an iterator: Kedro would save each of those frames as an artifact of its own.
    """

    def __init__(self, make: Callable[[], Iterator[pd.DataFrame]]) -> None:
        self._make = make

    def __iter__(self) -> Iterator[pd.DataFrame]:
        return self._make()


@dataclass(frozen=True)
class Forecasts:
    """A predictions frame as arrays, in log-return units.

    ts and session of the N anchors; targets (N, H), NaN where undefined; quantiles (N, H, Q); scale (N, H); the names
    of the horizons.
    """

    ts: pd.Series
    session: pd.Series
    targets: Floats
    quantiles: Floats
    scale: Floats
    horizons: tuple[str, ...] = DEFAULT


def horizons_in(predictions: pd.DataFrame) -> tuple[str, ...]:
    """The horizons of a predictions frame, from the shortest to the longest."""
    return in_order(map(str, predictions["horizon"].unique()))


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
    order = {name: h for h, name in enumerate(horizons)}
    column = predictions["horizon"].map(order)
    if column.isna().any():
        raise ValueError(
            f"expected horizons {list(horizons)}, found {sorted(predictions['horizon'].unique())}: "
            "score with the horizons that were forecast"
        )
    n, h = len(predictions) // len(horizons), len(horizons)
    frame, place = predictions, column.to_numpy(dtype=np.int64)
    if not (predictions["ts"].is_monotonic_increasing and _in_turn(place, h)):  # a copy only where it is needed
        frame = predictions.assign(_h=place).sort_values(["ts", "_h"], kind="stable", ignore_index=True)
        place = frame["_h"].to_numpy(dtype=np.int64)
    complete = _in_turn(place, h)
    if not complete or frame["ts"].iloc[::h].duplicated().any():
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
    )


def _in_turn(place: NDArray[np.integer], n_horizons: int) -> bool:
    """Whether the rows' horizons are 0, 1, … H − 1, anchor after anchor."""
    n, rest = divmod(len(place), n_horizons)
    return rest == 0 and bool((place == np.tile(np.arange(n_horizons), n)).all())

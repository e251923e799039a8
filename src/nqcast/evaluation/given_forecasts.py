"""Forecasts of anyone's making, read from a file and put beside the features that they are scored on.

A file has one row per anchor and horizon: `ts` (start of the bar at whose end the forecast was made, UTC or with a
zone) or `issue_time` (that end), `horizon`, and one column per level, q05 … q95 (the digits behind the point: q025 is
.025). Targets in the file are not read: they come from the features.
"""

import datetime as dt
import logging
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from nqcast.data.splits import positions
from nqcast.evaluation.comparison import compare_forecasts
from nqcast.evaluation.config import EvaluateConfig
from nqcast.evaluation.frames import Positions, as_arrays, level_columns, levels_of, predictions_frame
from nqcast.evaluation.judged import beside_baselines
from nqcast.evaluation.metrics import Floats
from nqcast.horizons import horizons_of, target_names
from nqcast.spacing import Spacing
from nqcast.storage.json_values import Json

log = logging.getLogger(__name__)

Values = Literal["log_return", "price"]

_LARGEST_RETURN = 0.5  # a median beyond it is a price
_WIDEST = 50.0  # times the outcomes' own width: percent of a calibrated forecast are 100 times as wide
_READ_OR_LEFT = {"ts", "issue_time", "horizon", "session", "target", "scale"}


def checked_levels(rows: pd.DataFrame) -> dict[float, str]:
    """Probability and column of each level, rising; ValueError for fewer than three, or without the median."""
    found = level_columns(rows)
    if 0.5 not in found or len(found) < 3:
        raise ValueError(
            "expected a column for each of three levels or more, with the median, as q05, q50, q95; found "
            f"{list(rows.columns)}: name the columns by the digits behind the point"
        )
    return found


def as_predictions(rows: pd.DataFrame, features: pd.DataFrame, splits: pd.DataFrame, values: Values) -> pd.DataFrame:
    """The predictions frame of a file's rows, on the anchors of validation and test, outcomes taken from the features.

    `values` says what the quantiles are: log returns over the horizon, or prices (of the raw, unadjusted contract).

    Raises:
        ValueError: no rows, a column is missing, an anchor is none of validation or test, has not each horizon once, or
            a quantile is not finite (or not a price above 0), or of another unit.
    """
    levels, horizons = checked_levels(rows), horizons_of(features.columns)
    if rows.empty:
        raise ValueError("expected a row per anchor and horizon, found the names of the columns alone: write them too")
    if unread := [str(name) for name in rows.columns if name not in _READ_OR_LEFT | set(levels.values())]:
        log.warning("columns of the file that are not read: %s; the levels are %s", unread, [*levels.values()])
    stamps = _stamps(rows, Spacing.of(features["ts"]))
    place = _places(rows, stamps, horizons)
    order = np.lexsort([place, stamps.to_numpy()])
    ts = stamps.iloc[order].iloc[:: len(horizons)]
    rows_N = _positions(ts, splits)
    shape = (len(rows_N), len(horizons), len(levels))
    quantiles = rows[list(levels.values())].to_numpy(np.float64)[order].reshape(shape)
    returns = _returns(quantiles, features["raw_close"].to_numpy(np.float64)[rows_N], values)
    _check_unit(returns, features[target_names(features.columns)].to_numpy(np.float64), list(levels))
    return predictions_frame(features, rows_N, returns, np.ones(shape[:2]), list(levels), horizons)


def anchors_held(predictions: pd.DataFrame, splits: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """How many anchors of validation and of test the forecasts hold, and how many there are."""
    held = splits["ts"].isin(predictions["ts"])
    parts = {name: splits["split"] == name for name in ("validation", "test")}
    return {name: (int((held & part).sum()), int(part.sum())) for name, part in parts.items()}


def score_given(
    predictions: pd.DataFrame,
    splits: pd.DataFrame,
    features: pd.DataFrame,
    true_quantiles: Any,
    test_uses: int,
    config: EvaluateConfig,
) -> Json:
    """Scores of a file's forecasts, called model in it, with the share of each split that the file holds."""
    anchors = as_arrays(predictions, levels_of(predictions), horizons_of(features.columns))
    compared = beside_baselines(anchors, features, positions(splits, "train"), config)
    scores = compare_forecasts(compared, true_quantiles, Spacing.of(features["ts"]))
    held = anchors_held(predictions, splits)
    named = ", ".join(f"{n:,} of the {of:,} {name} anchors ({n / of:.0%})" for name, (n, of) in held.items() if n)
    lines = textwrap.wrap(f"The file, called model above, holds {named}.", 79, break_on_hyphens=False)
    lines += textwrap.wrap(_crossings(anchors.quantiles), 79)
    lines += [f"Scorings of the test split so far: {test_uses}"]
    return {**scores, "anchors_held": held, "text": "\n\n".join([scores["text"], scores["details"], "\n".join(lines)])}


def _stamps(rows: pd.DataFrame, spacing: Spacing) -> pd.Series:
    """Starts of the anchors' bars, UTC without its mark."""
    named = [name for name in ("ts", "issue_time") if name in rows.columns]
    missing = [] if named else ["ts"]
    missing += [] if "horizon" in rows.columns else ["horizon"]
    if missing:
        raise ValueError(f"expected the columns ts (or issue_time), horizon and q05 …, found no {missing}: add them")
    try:
        stamps = pd.to_datetime(rows[named[0]], utc=True)
    except (ValueError, TypeError) as error:
        raise ValueError(f"expected time stamps in {named[0]}, found others ({error}): write them as UTC") from error
    early = spacing.bar if named[0] == "issue_time" else dt.timedelta(0)
    return (stamps - early).dt.as_unit("ns").reset_index(drop=True)


def _places(rows: pd.DataFrame, stamps: pd.Series, horizons: Sequence[str]) -> np.ndarray:
    """Index of each row's horizon; every anchor has each of them once."""
    place = rows["horizon"].map({name: i for i, name in enumerate(horizons)})
    counts = pd.crosstab(stamps, place.reset_index(drop=True)).reindex(columns=range(len(horizons)), fill_value=0)
    if place.isna().any() or not (counts == 1).all(axis=None):
        raise ValueError(
            f"expected each anchor once with each of the horizons {list(horizons)}, found {len(rows)} rows for "
            f"{stamps.nunique()} anchors with the horizons {sorted(map(str, rows['horizon'].unique()))}: "
            "forecast all of them, or leave the anchor out"
        )
    return place.to_numpy(np.int64)


def _positions(ts: pd.Series, splits: pd.DataFrame) -> Positions:
    allowed = splits.loc[splits["split"] != "train"]
    index = pd.Index(allowed["ts"].dt.as_unit("ns")).get_indexer(pd.Index(ts))
    if (index < 0).any():
        first = ts[index < 0].iloc[0]
        trains = splits.loc[splits["split"] == "train", "ts"].isin([first]).any()
        raise ValueError(
            f"expected anchors of validation and test alone, found {(index < 0).sum()} others; the first, {first}, "
            f"{'trains the baselines' if trains else 'is no bar at which forecasts are scored'}: take the anchors of "
            "05_model_input/splits.parquet in the data folder of the same --env, or of a predictions file"
        )
    return np.asarray(allowed["position"].to_numpy(np.int64)[index])


def _returns(quantiles_NHQ: Floats, price_N: Floats, values: Values) -> Floats:
    bad = ~np.isfinite(quantiles_NHQ) if values == "log_return" else ~(quantiles_NHQ > 0)
    if bad.any():
        raise ValueError(
            f"expected a finite {'log return' if values == 'log_return' else 'price above 0'} in every cell, found "
            f"none in {int(bad.sum()):,} of them: leave out anchors that were not forecast"
        )
    found = quantiles_NHQ if values == "log_return" else np.log(quantiles_NHQ / price_N[:, None, None])
    median = float(np.abs(np.median(found)))
    if median > _LARGEST_RETURN:
        raise ValueError(
            f"expected log returns, found quantiles whose typical size is {median:.3g}: prices are given by "
            "score_file.values=price"
        )
    return found


def _check_unit(quantiles_NHQ: Floats, y_MH: Floats, levels: Sequence[float]) -> None:
    """Raise ValueError where the intervals are so wide beside the market's outcomes that they are no log returns."""
    width_H = np.median(quantiles_NHQ[..., -1] - quantiles_NHQ[..., 0], axis=0)
    low_H, high_H = np.nanquantile(y_MH, [levels[0], levels[-1]], axis=0)
    times = float(np.nanmedian(width_H / np.maximum(high_H - low_H, 1e-12)))
    if times > _WIDEST:
        raise ValueError(
            f"expected log returns, found intervals {times:,.0f} times as wide as the outcomes: divide percent by 100, "
            "basis points by 10,000"
        )


def _crossings(quantiles_NHQ: Floats) -> str:
    """A sentence where a lower level lies above a higher one; empty where none does."""
    crossed = (np.diff(quantiles_NHQ, axis=-1) < 0).any(axis=-1)
    if not crossed.any():
        return ""
    return (
        f"In {int(crossed.sum()):,} of {crossed.size:,} rows a quantile lies above one of a higher level. They are "
        "scored as they stand; sorted along the levels they cannot lose more."
    )

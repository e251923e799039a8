"""Features of the user's own: a file with one function, from five-minute bars to one number per bar.

The column is called `<function>:<first 8 hexadecimal digits of the file's SHA-256>`. A table, a checkpoint and a
forecast therefore say by which text a feature was made, and a file that has changed since is another feature.
"""

import importlib.util
import inspect
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pandas as pd

from nqcast.constants import FEATURES
from nqcast.storage.fingerprint import digest

log = logging.getLogger(__name__)

PRICES = ("open", "high", "low", "close", "raw_close")
_CLOSE_ENOUGH = 1e-6


class OwnFeature(NamedTuple):
    """A function of the user's own, the name of its column, and the span of another market's bars that it reads."""

    name: str
    compute: Callable[[pd.DataFrame], object]
    span: tuple[pd.Timestamp, pd.Timestamp] | None = None


def load_own_features(files: Sequence[str | Path]) -> tuple[OwnFeature, ...]:
    """The feature of each file, in the order given. The files are code, and are run.

    Raises:
        ValueError: no such Python file, an error in it, not exactly one public function, or a name twice.
    """
    found = tuple(_load(Path(file)) for file in files)
    names = [feature.name.partition(":")[0] for feature in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"expected own features of different names, found {twice} twice: rename a function")
    return found


def own_columns(bars: pd.DataFrame, features: Sequence[OwnFeature]) -> dict[str, np.ndarray]:
    """The column (N,) of each feature over `bars`, proved to be finite, causal and free of the price level.

    Raises:
        ValueError: a column that is not one finite number per bar, that changes when later bars are taken away, or
            when all prices are four times as high.
    """
    for span in {feature.span for feature in features if feature.span}:
        _say_what_is_absent([feature.name for feature in features if feature.span == span], span, bars["ts"])
    return {feature.name: _checked(feature, bars) for feature in features}


def _say_what_is_absent(names: Sequence[str], span: tuple[pd.Timestamp, pd.Timestamp], ts: pd.Series) -> None:
    """Warn where another market's bars end before these do; ValueError where they have no hour in common."""
    (first, last), listed = span, ", ".join(names)
    since, until, begin, end = (f"{time:%Y-%m-%d %H:%M} UTC" for time in (first, last, ts.iloc[0], ts.iloc[-1]))
    if last < ts.iloc[0] or first > ts.iloc[-1]:
        raise ValueError(
            f"expected bars of another market for {listed} between {begin} and {end}, found them from {since} to "
            f"{until}: give a file that covers the same time"
        )
    if last < ts.iloc[-1]:
        log.warning("%s: that market's bars end at %s, these at %s; it stands still since", listed, until, end)


def is_own(name: str) -> bool:
    """Whether a column of a feature table is a feature of the user's own."""
    return ":" in name


def _load(file: Path) -> OwnFeature:
    if file.suffix != ".py" or not file.is_file():
        raise ValueError(f"expected a Python file with one function, found none at {file}: correct features.own")
    module = _imported(file)
    functions = {name: value for name, value in vars(module).items() if _is_its_own(value, module, name)}
    if len(functions) != 1:
        raise ValueError(
            f"expected one public function in {file}, found {sorted(functions) or 'none'}: let the names of helpers "
            "begin with an underscore, and give each feature a file of its own"
        )
    ((name, function),) = functions.items()
    return OwnFeature(f"{name}:{digest(file.read_bytes(), 8)}", function)


def _imported(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"nqcast_own_{file.stem}", file)
    assert spec is not None and spec.loader is not None, file
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"expected a Python file that loads, found in {file}: {_said(error)}: mend it") from error
    return module


def _is_its_own(value: object, module: ModuleType, name: str) -> bool:
    return inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_")


def _checked(feature: OwnFeature, bars: pd.DataFrame) -> np.ndarray:
    values = _values(feature, bars)
    for rows in (len(bars) // 3, 2 * len(bars) // 3):
        earlier = _values(feature, bars.iloc[:rows].reset_index(drop=True)) if rows else values[:0]
        if (row := _first_difference(earlier, values[:rows])) is not None:
            raise ValueError(
                f"expected a feature that looks at no later bar, found that {feature.name} at {bars['ts'].iloc[row]} "
                f"is {values[row]:g}, and {earlier[row]:g} without the bars from {bars['ts'].iloc[rows]} on: use "
                "the row itself and earlier ones alone"
            )
    prices = [name for name in PRICES if name in bars.columns]
    raised = _values(feature, bars.assign(**{name: 4.0 * bars[name] for name in prices}))
    if (row := _first_difference(raised, values)) is not None:
        raise ValueError(
            f"expected a feature that is free of the price level, found that {feature.name} at {bars['ts'].iloc[row]} "
            f"is {values[row]:g}, and {raised[row]:g} with prices four times as high: take ratios or their logarithms"
        )
    return values


def _values(feature: OwnFeature, bars: pd.DataFrame) -> np.ndarray:
    try:
        values = np.asarray(feature.compute(bars.copy()), dtype=np.float64)
    except Exception as error:
        raise ValueError(
            f"expected {feature.name} to give one number per bar, found {_said(error)}: mend its function, which is "
            f"given a frame of the columns {list(bars.columns)}"
        ) from error
    if values.shape != (len(bars),) or not np.isfinite(values).all():
        what = f"the shape {values.shape}" if values.shape != (len(bars),) else f"{(~np.isfinite(values)).sum()} others"
        raise ValueError(
            f"expected {feature.name} to give {len(bars)} finite numbers, one per bar, found {what}: bars without a "
            "trade, the halt and the first bars are rows too"
        )
    return values


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _first_difference(values: np.ndarray, others: np.ndarray) -> int | None:
    different = ~np.isclose(values, others, rtol=_CLOSE_ENOUGH, atol=1e-9)
    return int(np.argmax(different)) if different.any() else None


def feature_names(frame: pd.DataFrame) -> tuple[str, ...]:
    """The features of a table in the order in which a model takes them: the 24, then the user's own."""
    return (*FEATURES, *(name for name in frame.columns if is_own(name)))

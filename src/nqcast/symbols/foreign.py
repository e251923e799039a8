"""Bars of another market as features: es=es.parquet in `features.own` gives its return and its volatility by time."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nqcast.data.clock import utc_nanoseconds
from nqcast.data.config import FeaturesConfig
from nqcast.data.har import frozen_ewma
from nqcast.data.own_features import OwnFeature, load_own_features
from nqcast.fields import changed
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.instruments import Instrument, instrument, table
from nqcast.market.vendor import read_bars
from nqcast.storage.fingerprint import digest

_FLOOR = 1e-5  # of a bar's return, below which volatility is none
_HALF_LIFE = 12  # bars of five minutes
_RECIPE = "foreign bars: return, volatility; 1"
"""Names what the columns are; a change of the arithmetic is another feature."""


def own_features(files: Sequence[str | Path], ingest: IngestConfig) -> tuple[OwnFeature, ...]:
    """What `features.own` lists: Python files as they are, NAME=FILE as the bars of another market.

    Raises:
        ValueError: a file is neither, or a name is twice.
    """
    foreign = [str(file) for file in files if "=" in str(file)]
    code = load_own_features([file for file in files if "=" not in str(file)])
    return (*code, *(feature for entry in foreign for feature in _foreign(entry, ingest)))


def _foreign(entry: str, ingest: IngestConfig) -> tuple[OwnFeature, ...]:
    name, _, file = entry.partition("=")
    if not name.isidentifier():
        raise ValueError(f"expected a name such as es before the file, found {entry!r}: write es=FILE")
    series = _closes(name, Path(file), ingest)
    number = digest(f"{_RECIPE} {name}".encode(), 8)
    span, stamp = (series["ts"].iloc[0], series["ts"].iloc[-1]), utc_nanoseconds(series["ts"])

    def returns(bars: pd.DataFrame) -> np.ndarray:
        """Log return of the other market since this table's bar before; 0 where it has no newer one."""
        known = np.searchsorted(stamp, utc_nanoseconds(bars["ts"]), side="right") - 1
        log_close = np.log(series["close"].to_numpy())[np.maximum(known, 0)]
        return np.diff(log_close, prepend=log_close[:1])

    def volatility(bars: pd.DataFrame) -> np.ndarray:
        """Half the log of its squared returns, averaged over the latest hours."""
        square, half_life = returns(bars) ** 2, ingest.spacing.lasting(_HALF_LIFE)
        return 0.5 * np.log(1e-8 * frozen_ewma(1e8 * square, np.ones(len(square), bool), half_life) + _FLOOR**2)

    return (
        OwnFeature(f"{name}_return:{number}", returns, span),
        OwnFeature(f"{name}_volatility:{number}", volatility, span),
    )


def _closes(name: str, file: Path, ingest: IngestConfig) -> pd.DataFrame:
    """ts (UTC) and close of every bar that has traded, checked and rolled as the run's own bars are."""
    raw = read_bars(file)
    raw.attrs["source"] = file.name
    row = instrument_of(file.stem, {}) or instrument_of(name.upper(), {}) or ingest.instrument
    changes = {"instrument": row, "tick": row.tick, "volume": FeaturesConfig(volume="auto").has_volume(raw)}
    try:
        bars = build_bars(raw, changed(ingest, changes)).bars
    except ValueError as error:
        raise ValueError(f"{name}={file}: {error}") from error
    return bars.loc[bars["traded"], ["ts", "close"]]


def instrument_of(symbol: str, own: Mapping[str, dict[str, Any]]) -> Instrument | None:
    """The instrument whose symbol is a file's name, or the first word of it; None where there is none."""
    for name in (symbol, re.split(r"[_ -]", symbol)[0].upper()):
        if name in own or name in table():
            return instrument(name, own)
    return None

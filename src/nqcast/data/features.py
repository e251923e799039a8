"""The 24 features: causal, free of price levels, finite on every row.

All are computed over the rows of the session grid, untraded ones included: a row depends on the rows up to it and on
nothing later. Returns stay inside the session (a session's first bar: ln(C/O); the gap sits in `open_return`). Price
averages run over a path in which the jump of an unadjusted roll is taken out. The numbers in their names count bars of
five minutes: with another spacing a window, a lag and an average last as long.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.signal import lfilter

from nqcast.constants import CLOCK, FEATURES
from nqcast.data.clock import clock_columns, utc_nanoseconds
from nqcast.data.config import FeaturesConfig
from nqcast.data.own_features import OwnFeature, feature_names, load_own_features, own_columns
from nqcast.data.targets import target_columns
from nqcast.fields import changed
from nqcast.horizons import DEFAULT, check_multiples, horizons, horizons_of, in_order
from nqcast.spacing import Spacing

_CARRIED = (
    *("ts", "session", "contract", "traded", "halt", "close", "raw_close", "gap_minutes", "unadjusted"),
    *("halts", "bars_to_close"),
)
COLUMNS = (*_CARRIED, "realized_variance", "log_range", "session_first", *CLOCK, *FEATURES)  # then the targets
BREAKS = "long_break_in"
"""The column of bars that a table carries as well where a horizon ends over the break."""
_REQUIRED = ("ts", "open", "high", "low", "close", "traded", "halt", "session", "realized_variance")
_OPTIONAL_DEFAULTS = {"contract": pd.NA, "gap_minutes": 0.0, "unadjusted": False, "bars_to_close": 0}


def build_features(
    bars: pd.DataFrame,
    config: FeaturesConfig | None = None,
    own: Sequence[OwnFeature] | None = None,
    names: Sequence[str] = DEFAULT,
) -> pd.DataFrame:
    """Features, clock and targets of `bars`, row for row.

    Args:
        bars: the complete grid (ts UTC, open, high, low, close, volume, traded, halt, session,
            realized_variance, raw_close, gap_minutes, contract, unadjusted).
        config: volume switch, tick size, files of own features.
        own: own features at hand; None loads those that `config.own` names.
        names: the horizons, whose outcomes are the columns target_15m, …

    Returns:
        ts, session, contract, traded, halt, close, raw_close, gap_minutes, unadjusted, halts, bars_to_close,
        realized_variance, log_range (ln H/L), session_first, the clock, the 24 features (float64), the targets (NaN:
        undefined) and the user's own features.

    Raises:
        ValueError: a column is missing, stamps are naive or out of order, a price is not positive, or a feature of
            the user's own looks ahead, depends on the price level or is not finite.
    """
    config = config or FeaturesConfig()
    config = changed(config, {"volume": config.has_volume(bars)})
    bars = _checked(bars, config, names)
    session = bars["session"].to_numpy()
    session_first = np.ones(len(bars), dtype=bool)
    session_first[1:] = session[1:] != session[:-1]
    columns: dict[str, Any] = {name: bars[name].array.copy() for name in _CARRIED}
    columns |= {
        "realized_variance": bars["realized_variance"].to_numpy(np.float64, copy=True),
        "log_range": np.log(bars["high"].to_numpy(np.float64) / bars["low"].to_numpy(np.float64)),
        "session_first": session_first,
    }
    columns |= clock_columns(bars["ts"], Spacing.of(bars["ts"])) | _feature_columns(bars, session_first, config)
    columns = {name: columns[name] for name in COLUMNS} | target_columns(bars, names)
    if any(one.sessions for one in horizons(names)):
        columns[BREAKS] = bars[BREAKS].to_numpy(copy=True)
    columns |= own_columns(bars, load_own_features(config.own) if own is None else own)
    frame = pd.DataFrame(columns, copy=False)  # each column is its own by now
    _check_finite(frame)
    # where the bars come from, and of what they are, travels with what is made of them
    frame.attrs["source"] = bars.attrs.get("source", "")
    frame.attrs["product"] = {**bars.attrs.get("product", {}), "tick": config.tick}
    return frame


def check_features(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame`, proved to be a feature table: every column, stamps with a zone in rising order, features finite.

    Raises:
        ValueError: it is not.
    """
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ValueError(f"expected a feature table's columns {list(COLUMNS)}, found no {missing}: build it from bars")
    if not horizons_of(frame.columns):
        raise ValueError("expected a feature table with outcomes, as target_60m, found none: build it from bars")
    in_order(horizons_of(frame.columns))
    _check_stamps(frame["ts"], "features")
    _check_finite(frame)
    return frame


def _check_stamps(ts: pd.Series, name: str) -> None:
    if not isinstance(ts.dtype, pd.DatetimeTZDtype):
        raise ValueError(f"expected stamps with the zone UTC in {name}.ts, found dtype {ts.dtype}: localise them")
    if len(ts) == 0:
        raise ValueError(f"expected at least one row of {name}, found none: check the input file and the quarantine")
    if ts.hasnans or not (np.diff(utc_nanoseconds(ts)) > 0).all():
        raise ValueError(f"expected rising stamps in {name}.ts, found repeated or earlier ones: sort and deduplicate")


def _checked(bars: pd.DataFrame, config: FeaturesConfig, names: Sequence[str]) -> pd.DataFrame:
    required = (*_REQUIRED, "volume") if config.volume else _REQUIRED
    missing = [name for name in required if name not in bars.columns]
    if missing:
        hint = "; set features.volume=false for bars without volume" if missing == ["volume"] else ""
        raise ValueError(f"expected bars with {list(required)}, found no {missing}: run the ingest pipeline{hint}")
    _check_stamps(bars["ts"], "bars")
    check_multiples(names, Spacing.of(bars["ts"]).minutes)
    if not (bars["low"].to_numpy() > 0).all():
        raise ValueError("expected bars with positive prices, found a low at or below 0, or none: clean the bars")
    if (BREAKS not in bars or "bars_to_close" not in bars) and not all(one.by_clock for one in horizons(names)):
        raise ValueError(
            f"expected bars with bars_to_close and {BREAKS} for the horizons {list(names)}, found them without: run "
            "the ingest pipeline again"
        )
    absent: dict[str, Any] = {name: value for name, value in _OPTIONAL_DEFAULTS.items() if name not in bars.columns}
    if "halts" not in bars.columns:
        absent["halts"] = bool(bars["halt"].any())
    if "raw_close" not in bars.columns:
        absent["raw_close"] = bars["close"]
    return bars.assign(**absent) if absent else bars


def _check_finite(frame: pd.DataFrame) -> None:
    asked = (*feature_names(frame), "close", "raw_close", "realized_variance", "log_range")
    names = [name for name in asked if not np.isfinite(frame[name].to_numpy()).all()]
    if names:
        raise ValueError(f"expected features finite on every row, found others in {names}: check the bars for NaN")


def _feature_columns(bars: pd.DataFrame, session_first: np.ndarray, config: FeaturesConfig) -> dict[str, np.ndarray]:
    open_, high, low, close = (bars[name].to_numpy(np.float64) for name in ("open", "high", "low", "close"))
    unadjusted = bars["unadjusted"].to_numpy(bool)
    previous = np.concatenate([open_[:1], close[:-1]])
    previous = np.where(unadjusted, open_, previous)  # the return across an unadjusted roll is left out
    reference = np.where(session_first, open_, previous)  # inside the session
    log_return = np.log(close / reference)
    tick_variance = (0.5 * config.tick / bars["raw_close"].to_numpy(np.float64)) ** 2
    columns = {
        "open_return": np.log(open_ / previous),
        "high_return": np.log(high / open_),
        "low_return": np.log(low / open_),
        "log_return": log_return,
    }
    columns["gk_volatility"] = 0.5 * np.log(np.maximum(garman_klass(open_, high, low, close), tick_variance))
    variance, spacing = bars["realized_variance"].to_numpy(np.float64), Spacing.of(bars["ts"])
    for window in (12, 36, 72):
        columns[f"rv_{window}"] = np.log(np.maximum(_rolling_mean(variance, spacing.rows(window)), tick_variance))
    columns |= _volume_columns(bars, log_return, tick_variance, config, spacing)
    columns |= _momentum_columns(close * _unadjusted_factor(close, open_, unadjusted), log_return, spacing)
    true_range = np.maximum(high, reference) - np.minimum(low, reference)
    columns["atr_14"] = _ewma(true_range / close, 1 / max(spacing.lasting(14), 1))
    return columns


def garman_klass(open_: np.ndarray, high: np.ndarray, low: np.ndarray, close: np.ndarray) -> np.ndarray:
    """Variance of a bar from its four prices: ½ ln(H/L)² − (2 ln 2 − 1) ln(C/O)² (Garman and Klass, 1980, eq. 20)."""
    return 0.5 * np.log(high / low) ** 2 - (2 * np.log(2) - 1) * np.log(close / open_) ** 2


def _unadjusted_factor(close: np.ndarray, open_: np.ndarray, unadjusted: np.ndarray) -> np.ndarray:
    """Factor that takes the jump of each unadjusted roll out of the price path, from that row forward."""
    jump = np.ones_like(close)
    rows = np.flatnonzero(unadjusted[1:]) + 1
    jump[rows] = close[rows - 1] / open_[rows]
    return np.cumprod(jump)


def _volume_columns(
    bars: pd.DataFrame, log_return: np.ndarray, tick_variance: np.ndarray, config: FeaturesConfig, spacing: Spacing
) -> dict[str, np.ndarray]:
    """Volume, Amihud's |return| per contract traded (his dollars would bring the price level back), relative volume."""
    if not config.volume:
        return {name: np.zeros(len(bars)) for name in ("log_volume", "amihud", "volume_ma_ratio")}
    volume = bars["volume"].to_numpy(np.float64)
    log_volume = np.log1p(volume)
    return {
        "log_volume": log_volume,
        "amihud": 0.5 * np.log(np.maximum(log_return**2, tick_variance)) - log_volume,
        "volume_ma_ratio": log_volume - np.log1p(np.maximum(_rolling_mean(volume, spacing.rows(20)), 0.0)),
    }


def _momentum_columns(price: np.ndarray, log_return: np.ndarray, spacing: Spacing) -> dict[str, np.ndarray]:
    columns = {}
    alpha = 1 / max(spacing.lasting(14), 1)
    gain, loss = (_ewma(np.maximum(sign * log_return, 0.0), alpha) for sign in (1, -1))
    total = gain + loss
    columns["rsi_14"] = np.divide(gain - loss, total, out=np.zeros_like(total), where=total > 1e-12)
    line = _ema(price, spacing.lasting(12)) - _ema(price, spacing.lasting(26))
    columns["macd"] = line / price
    columns["macd_signal"] = _ema(line, spacing.lasting(9)) / price
    log_price = np.log(price)
    for lag in (5, 10, 20):
        columns[f"roc_{lag}"] = log_price - _lagged(log_price, spacing.rows(lag))
    for span in (9, 21, 50):
        average = _ema(price, spacing.lasting(span))
        # Over one bar the slope would be proportional to the deviation: the same feature twice.
        columns[f"ema_slope_{span}"] = (average - _lagged(average, max(spacing.rows(span // 3), 2))) / price
        columns[f"ema_dev_{span}"] = (price - average) / price
    return columns


def _lagged(values: np.ndarray, lag: int) -> np.ndarray:
    """Values `lag` rows before; the first value where there is none."""
    return values[np.maximum(np.arange(len(values)) - lag, 0)]


def _ema(values: np.ndarray, span: float) -> np.ndarray:
    return _ewma(values, min(2 / (span + 1), 1.0))


def _ewma(values: np.ndarray, alpha: float) -> np.ndarray:
    """Exponentially weighted average, started at the first value (pandas `ewm(alpha=…, adjust=False)`)."""
    return lfilter([alpha], [1.0, alpha - 1.0], values, zi=[(1.0 - alpha) * values[0]])[0]


def _rolling_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` rows, of those there are at the start."""
    total = np.cumsum(values)
    mean = total / np.minimum(np.arange(1, len(values) + 1), window)
    mean[window:] = (total[window:] - total[:-window]) / window
    return mean

"""The feature table from five-minute bars: bars per second and peak memory, beside the usual pandas way."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from benchmarks.material import long_bars
from benchmarks.measuring import PeakMemory, Row, main, seconds_per_call

from nqcast.data.features import build_features

COUNTS = (100_000, 1_000_000, 5_000_000)


def pandas_way(bars: pd.DataFrame) -> pd.DataFrame:
    """The same 24 columns with `rolling`, `ewm` and `shift`, as notebooks have them; no clock, targets or checks."""
    close, log_close = bars["close"], np.log(bars["close"])
    r = log_close.diff()
    columns = {
        **{"open_return": np.log(bars["open"] / close.shift()), "high_return": np.log(bars["high"] / bars["open"])},
        **{"low_return": np.log(bars["low"] / bars["open"]), "log_return": r, "log_volume": np.log1p(bars["volume"])},
        "gk_volatility": 0.5 * np.log(bars["high"] / bars["low"]) ** 2 - 0.386 * np.log(close / bars["open"]) ** 2,
        **{f"rv_{n}": np.log(bars["realized_variance"].rolling(n).mean()) for n in (12, 36, 72)},
        **{"amihud": np.log(r.abs()) - np.log1p(bars["volume"])},
    }
    gain, loss = (r.clip(lower=0).ewm(alpha=1 / 14).mean(), (-r).clip(lower=0).ewm(alpha=1 / 14).mean())
    line = close.ewm(span=12).mean() - close.ewm(span=26).mean()
    columns |= {"rsi_14": (gain - loss) / (gain + loss), "macd": line, "macd_signal": line.ewm(span=9).mean()}
    columns |= {f"roc_{n}": log_close.diff(n) for n in (5, 10, 20)}
    for n in (9, 21, 50):
        average = close.ewm(span=n).mean()
        columns |= {f"ema_slope_{n}": average.diff(n // 3) / close, f"ema_dev_{n}": (close - average) / close}
    true_range = np.maximum(bars["high"], close.shift()) - np.minimum(bars["low"], close.shift())
    columns |= {"atr_14": true_range.ewm(alpha=1 / 14).mean() / close}
    return pd.DataFrame(columns).assign(volume_ma_ratio=np.log1p(bars["volume"] / bars["volume"].rolling(20).mean()))


def measure() -> Iterator[Row]:
    """Ours at three sizes, each a ratio to pandas on the same bars; the first call of a process stands by itself."""
    bars = long_bars(max(COUNTS))
    for count in COUNTS:
        part = bars.iloc[:count]
        with np.errstate(divide="ignore", invalid="ignore"):
            usual = seconds_per_call(lambda part=part: pandas_way(part), least=1, warm=0)
        with PeakMemory() as peak:
            first = seconds_per_call(lambda part=part: build_features(part), least=1, warm=0)
        again = seconds_per_call(lambda part=part: build_features(part), least=2, warm=0)
        mb = peak.mb
        note = f"{first:.2f} s the first time, {again:.2f} s again, {1e6 * mb / count:.0f} bytes a bar"
        yield Row(f"{count / 1e6:g} million bars, one core", count / again, "bars/s", usual / again, "pandas", mb, note)


if __name__ == "__main__":
    main(measure)

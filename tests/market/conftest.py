"""Small made markets: every session minute of some dates, on the tick, with minutes missing."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import numpy as np
import pandas as pd
import pytest

from nqcast.constants import MINUTE_NS
from nqcast.market.calendar import nanoseconds, trading_sessions

MakeBars = Callable[..., pd.DataFrame]


def _make_bars(
    start: date, end: date, seed: int = 0, missing: float = 0.1, contract: str | None = "NQZ6"
) -> pd.DataFrame:
    """Raw 1-minute bars of the sessions of [start, end], a random walk on the 0.25 tick around 4500."""
    sessions = trading_sessions(start, end)
    rng = np.random.default_rng(seed)
    parts = []
    for row in sessions.itertuples():
        minutes = np.arange(row.open.value, row.close.value, MINUTE_NS)
        if row.halt_start is not pd.NaT:
            minutes = minutes[(minutes < row.halt_start.value) | (minutes >= row.halt_end.value)]
        parts.append(minutes)
    stamp = np.concatenate(parts)
    stamp = stamp[rng.random(len(stamp)) >= missing]
    n = len(stamp)
    close = 4500 + 0.25 * np.cumsum(rng.integers(-3, 4, n))
    open_ = np.r_[4500, close[:-1]] + 0.25 * rng.integers(-1, 2, n)
    bars = pd.DataFrame(
        {
            "ts": pd.to_datetime(stamp, utc=True),
            "open": open_,
            "high": np.maximum(open_, close) + 0.25 * rng.integers(0, 3, n),
            "low": np.minimum(open_, close) - 0.25 * rng.integers(0, 3, n),
            "close": close,
            "volume": rng.integers(1, 200, n),
        }
    )
    return bars if contract is None else bars.assign(contract=pd.Series([contract] * n, dtype="str"))


@pytest.fixture(scope="session")
def make_bars() -> MakeBars:
    """Makes raw bars: make_bars(start, end, seed, missing, contract)."""
    return _make_bars


@pytest.fixture(scope="session")
def week(make_bars: MakeBars) -> pd.DataFrame:
    """One contract, five sessions of September 2016, a tenth of the minutes missing."""
    return make_bars(date(2016, 9, 19), date(2016, 9, 23))


@pytest.fixture(scope="session")
def two_contracts(make_bars: MakeBars) -> pd.DataFrame:
    """Eight sessions; NQU6 to the end of 09-21 with volume going, NQZ6 (0.998 of its price) from 09-14 on.

    From the session of 09-16 on, NQZ6 trades more.
    """
    old = make_bars(date(2016, 9, 12), date(2016, 9, 21), seed=1, contract="NQU6")
    session = (old["ts"] + pd.Timedelta(hours=2)).dt.normalize()  # 17:00 Chicago is 22:00 UTC here
    late = session >= pd.Timestamp("2016-09-16", tz="UTC")
    new = old.assign(contract=pd.Series(["NQZ6"] * len(old), dtype="str"))
    for price in ("open", "high", "low", "close"):
        new[price] = old[price] * 0.998
    new["volume"] = np.where(late, old["volume"] * 2, old["volume"] // 2)
    both = pd.concat([old, new[session >= pd.Timestamp("2016-09-14", tz="UTC")]], ignore_index=True)
    assert nanoseconds(both["ts"]).max() == nanoseconds(old["ts"]).max()
    return both.sort_values(["ts", "contract"], ignore_index=True)

"""Small random bars on the exchange's grid, with its halt, its weekends and the change to summer time."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from nqcast.data.features import build_features

Maker = Callable[..., pd.DataFrame]


def session_stamps(day: pd.Timestamp) -> pd.DatetimeIndex:
    """Starts of the bars of a session, 17:00 on the evening before to 15:55, exchange time, as UTC."""
    evening = (day - pd.Timedelta(days=1)).replace(hour=17)
    local = pd.date_range(evening, day.replace(hour=15, minute=55), freq="5min")
    return local.tz_localize("America/Chicago").tz_convert("UTC").as_unit("ns")


def random_bars(days: pd.DatetimeIndex, seed: int = 0) -> pd.DataFrame:
    """Valid bars on a quarter-point tick; one in fifty has no trade."""
    rng = np.random.default_rng(seed)
    stamps = [session_stamps(day) for day in days]
    ts = stamps[0].append(stamps[1:])
    session = np.repeat(days.to_numpy().astype("datetime64[ns]"), [len(s) for s in stamps])
    local = ts.tz_convert("America/Chicago")
    minute = local.hour * 60 + local.minute
    halt = (minute >= 915) & (minute < 930)
    n = len(ts)
    traded = (rng.random(n) > 0.02) & ~halt
    step = np.where(traded, rng.laplace(scale=2.0, size=n), 0.0) * np.where((minute >= 510) & (minute < 900), 3, 1)
    close = np.round((4500 + np.cumsum(step)) * 4) / 4
    before = np.concatenate([[4500.0], close[:-1]])
    gap = np.where(traded, np.round(rng.normal(size=n)) * 0.25, 0.0)
    open_ = np.where(traded, before + gap, close)
    reach = np.where(traded, rng.integers(0, 8, size=(2, n)) * 0.25, 0.0)
    first = np.concatenate([[True], session[1:] != session[:-1]])
    base = np.where(first, open_, before)
    variance = np.where(traded, np.log(close / base) ** 2 * 0.5 + rng.exponential(1e-8, n), 0.0)
    return pd.DataFrame(
        {
            "ts": ts, "open": open_, "high": np.maximum(open_, close) + reach[0],
            "low": np.minimum(open_, close) - reach[1], "close": close,
            "volume": np.where(traded, rng.integers(1, 2000, n), 0), "traded": traded, "halt": halt,
            "session": session, "gap_minutes": np.where(first, 60.0, 0.0),
            "contract": pd.array(["NQM6"] * n, dtype="string"), "raw_close": close,
            "realized_variance": variance, "unadjusted": np.zeros(n, dtype=bool),
        }
    )  # fmt: skip


@pytest.fixture(scope="session")
def make_bars() -> Maker:
    """`random_bars(days, seed)`."""
    return random_bars


@pytest.fixture(scope="session")
def bars() -> pd.DataFrame:
    """Thirty-five sessions around 2016-03-13, when Chicago went to summer time."""
    return random_bars(pd.bdate_range("2016-02-22", "2016-04-08"))


@pytest.fixture(scope="session")
def features(bars: pd.DataFrame) -> pd.DataFrame:
    return build_features(bars)

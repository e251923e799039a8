"""The fan of a forecast as price paths, the same for the picture and the page."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES
from nqcast.evaluation import metrics
from nqcast.spacing import Spacing


def fan_paths(forecast: pd.DataFrame) -> pd.DataFrame:
    """Price at each level (columns) from the issue to the longest defined horizon, every five minutes (UTC index).

    Between horizons the log return is linear in √time, as the spread of a random walk is.
    """
    defined = forecast[forecast["return_quantile"].notna()]
    table = defined.pivot(index="target_time", columns="level", values="return_quantile").sort_index()
    issued, price = forecast["issue_time"].iloc[0], float(forecast["last_price"].iloc[0])
    minutes = np.concatenate([[0.0], (table.index - issued) / pd.Timedelta(minutes=1)])
    fine = np.arange(0.0, minutes[-1] + BAR_MINUTES, BAR_MINUTES)
    paths = {level: price * np.exp(np.interp(np.sqrt(fine), np.sqrt(minutes), [0.0, *table[level]])) for level in table}
    return pd.DataFrame(paths, index=issued + pd.to_timedelta(fine, unit="min"))


def past_price(recent: pd.DataFrame) -> pd.Series:
    """Raw closes of the traded bars at their ends (UTC index)."""
    traded = recent[recent["traded"].astype(bool)]
    ends = pd.DatetimeIndex(traded["ts"]) + Spacing.of(recent["ts"]).bar
    return pd.Series(traded["raw_close"].to_numpy(float), index=ends)


def bands_of(levels: Iterable[float]) -> list[tuple[float, float, str]]:
    """The intervals to draw, widest first: lower level, upper level and name; those nearest to 90, 80 and 50 %."""
    known = list(levels)
    percents = metrics.usual_intervals(known)
    ends = [(0.5 - percent / 200, 0.5 + percent / 200) for percent in percents]
    level = {end: known[metrics.level_index(known, end)] for pair in ends for end in pair}
    return [(level[low], level[high], f"{p:g} %") for (low, high), p in zip(ends, percents, strict=True)]


def heading(forecast: pd.DataFrame) -> str:
    """Contract, price and time of a forecast in one line; the product is named where the contract's text names it."""
    row = forecast.iloc[0]
    known = isinstance(row["contract"], str) and row["contract"] not in ("", "unknown")
    contract = row["contract"] if known else "price"
    contract = f"contract {contract}" if contract.isdigit() else contract
    return f"{contract} at {row['last_price']:,.2f}, forecast issued {row['issue_time']:%Y-%m-%d %H:%M} UTC"

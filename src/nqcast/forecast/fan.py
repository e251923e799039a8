"""The fan of a forecast as price paths, the same for the picture and the page."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES
from nqcast.forecast.freshness import BAR

BANDS = ((0.05, 0.95, "90 %"), (0.10, 0.90, "80 %"), (0.25, 0.75, "50 %"))  # drawn where both levels were forecast


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
    return pd.Series(traded["raw_close"].to_numpy(float), index=pd.DatetimeIndex(traded["ts"]) + BAR)


def bands_of(paths: pd.DataFrame) -> list[tuple[float, float, str]]:
    """The intervals whose two levels were forecast, widest first."""
    return [(low, high, name) for low, high, name in BANDS if low in paths and high in paths]


def heading(forecast: pd.DataFrame) -> str:
    """Contract, price and time of a forecast in one line; the product is named where the contract's text names it."""
    row = forecast.iloc[0]
    known = isinstance(row["contract"], str) and row["contract"] not in ("", "unknown")
    contract = row["contract"] if known else "price"
    contract = f"contract {contract}" if contract.isdigit() else contract
    return f"{contract} at {row['last_price']:,.2f}, forecast issued {row['issue_time']:%Y-%m-%d %H:%M} UTC"

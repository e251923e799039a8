"""More bars behind those that are there: a day's file continues the grid of years."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd

from nqcast.market import calendar
from nqcast.market.config import IngestConfig
from nqcast.market.schema import PRICES
from nqcast.spacing import Spacing

log = logging.getLogger(__name__)


def extended(bars: pd.DataFrame, new: pd.DataFrame, config: IngestConfig) -> pd.DataFrame:
    """`bars` up to their last trade, and the rows of `new` after it, at prices that continue theirs.

    Both are grids as ingest makes them, forward-adjusted, each from its own first contract on. The factor between them
    is that of the newest bar that both hold, or that of a contract that ends the one and begins the other; where there
    is neither, the first new bar is marked, and the return across it is left out. Rows of `new` that `bars` hold
    already are passed over. Files that follow each other make the grid of one, where each begins some sessions before
    the last one's end: rolls are found inside a file.

    Sessions of `config`'s calendar that lie between the two are named, since no later file can put them in.

    Raises:
        ValueError: the grids have other columns, such as volume in one of them alone.
    """
    if list(bars.columns) != list(new.columns):
        different = sorted(set(bars.columns) ^ set(new.columns))
        raise ValueError(
            f"expected new bars with the columns of those that are there, found {different} in one of them alone: "
            "bring a file of the same kind, or ingest and train anew"
        )
    spacing = Spacing.of(bars["ts"])
    spacing.check(new["ts"])
    last = bars.loc[bars["traded"], "ts"].iloc[-1]
    old, rest = bars[bars["ts"] <= last], new[new["ts"] > last]
    late = new.loc[new["traded"] & (new["ts"] <= last) & ~new["ts"].isin(old.loc[old["traded"], "ts"]), "ts"]
    if len(late):
        log.warning(
            "%d bars from %s to %s UTC come after later ones and are passed over: ingest the whole history for them",
            *(len(late), f"{late.iloc[0]:%Y-%m-%d %H:%M}", f"{late.iloc[-1]:%Y-%m-%d %H:%M}"),
        )
    if not rest["traded"].any():
        bars.attrs.update(new.attrs)
        return bars
    factor = _factor(old, new, rest)
    rest = rest.assign(**{name: rest[name] * (factor or 1.0) for name in PRICES})
    if factor is None:
        log.warning("no contract of the bars until %s goes on in the new ones: the return across is left out", last)
        rest.iloc[0, rest.columns.get_loc("unadjusted")] = True
    _say_which_sessions_are_absent(old["session"].iloc[-1], rest["session"].iloc[0], config)
    if rest["session"].iloc[0] != old["session"].iloc[-1]:
        pause = (rest["ts"].iloc[0] - old["ts"].iloc[-1] - spacing.bar) / pd.Timedelta(minutes=1)
        rest.iloc[0, rest.columns.get_loc("gap_minutes")] = pause
    joined = pd.concat([old, rest], ignore_index=True)
    joined.attrs = dict(new.attrs)
    return joined


def _say_which_sessions_are_absent(last: pd.Timestamp, first: pd.Timestamp, config: IngestConfig) -> None:
    sessions = calendar.trading_sessions(last.date(), first.date(), config.session_closes, config.instrument)["session"]
    absent = sessions[(sessions > last) & (sessions < first)]
    if len(absent):
        log.warning(
            "no bars of %d sessions, %s to %s: a later file cannot add them; to have them, ingest the whole history",
            *(len(absent), absent.iloc[0].date(), absent.iloc[-1].date()),
        )


def _factor(old: pd.DataFrame, new: pd.DataFrame, rest: pd.DataFrame) -> float | None:
    common = np.flatnonzero(new["ts"].isin(old.loc[old["traded"], "ts"]).to_numpy() & new["traded"].to_numpy(bool))
    if len(common):
        there = new.iloc[common[-1]]
        return float(old.loc[old["ts"] == there["ts"], "close"].iloc[0] / there["close"])
    before, after = old.iloc[-1], rest.iloc[0]
    if before["contract"] != after["contract"]:
        return None
    return float((before["close"] / before["raw_close"]) / (after["close"] / after["raw_close"]))

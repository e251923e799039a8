"""Which quarterly contracts the simulated market quotes, and when each one is the front."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd

from nqcast.constants import EXCHANGE_TIMEZONE
from nqcast.market.calendar import trading_sessions
from nqcast.market.simulation.config import SimulationConfig

DAYS_BEFORE_EXPIRY = 4
SETTLEMENT = pd.Timedelta(hours=8, minutes=30)
LOOK_AHEAD = timedelta(days=140)


@dataclass(frozen=True)
class Contract:
    """One quarterly contract; instants are nanoseconds since the epoch, sessions are row numbers."""

    code: str
    listed: int
    """Session from which it has bars."""
    front_session: int
    """Session in which it becomes the front contract."""
    front_ns: int
    """Instant from which it is the front."""
    last_ns: int
    """Its bars start before this instant."""
    log_ratio: float
    """Log of its price over the price of the contract before it."""


def market_sessions(config: SimulationConfig) -> pd.DataFrame:
    """The sessions of the configuration and a quarter more, so that rolls do not depend on where the market stops."""
    days = int(config.sessions * 1.5) + 30
    sessions = trading_sessions(config.start, config.start + timedelta(days=days) + LOOK_AHEAD)
    if len(sessions) < config.sessions + 80:
        raise ValueError(
            f"expected {config.sessions} sessions from {config.start} on and a quarter more, found {len(sessions)} in "
            "the calendar: start earlier or ask for fewer sessions"
        )
    last, over = sessions.iloc[config.sessions - 1], int((sessions["close"] <= pd.Timestamp.now("UTC")).sum())
    if over < config.sessions:
        raise ValueError(
            f"expected {config.sessions} session{'s' * (config.sessions > 1)} from {config.start} on to be over, since "
            f"stamps after now are no bars, found that the last closes at {last['close']:%Y-%m-%d %H:%M} UTC: start "
            "earlier" + (f", or ask for {over} at most" if over else "")
        )
    return sessions.iloc[: config.sessions + 80].reset_index(drop=True)


def contracts(config: SimulationConfig, sessions: pd.DataFrame) -> list[Contract]:
    """Every contract with bars in the market, oldest first; the first one is the front at the start."""
    days = sessions["session"].dt.date.tolist()
    found: list[Contract] = []
    front_session, front_ns = 0, sessions["open"].iloc[0].value
    for expiry in _expiries(config.start, days[-1]):
        handover = _handover(config, expiry, sessions)
        if handover is None:
            break
        roll_session, roll_ns, last_ns = handover
        if roll_session <= 0:
            continue
        code = f"{expiry:%Y%m}"
        draw = np.random.default_rng([config.seed, int(code)]).standard_normal()
        log_ratio = config.carry_mean + config.carry_deviation * float(draw) if found else 0.0
        listed = max(front_session - config.overlap_sessions, 0) if found else 0
        found.append(Contract(code, listed, front_session, front_ns, last_ns, log_ratio))
        front_session, front_ns = roll_session, roll_ns
    return [contract for contract in found if contract.listed < config.sessions]


def _handover(config: SimulationConfig, expiry: date, sessions: pd.DataFrame) -> tuple[int, int, int] | None:
    """Session and instant at which the contract ceases to be the front, end of its bars; None beyond the calendar."""
    session = sessions["session"]
    expiry_row = int(session.searchsorted(pd.Timestamp(expiry), side="right")) - 1
    last_row = int(session.searchsorted(pd.Timestamp(expiry) - pd.Timedelta(days=DAYS_BEFORE_EXPIRY), side="right")) - 1
    if expiry_row + 1 >= len(session):
        return None
    if expiry_row < 0:
        return -1, 0, 0
    settlement = session.iloc[expiry_row] + SETTLEMENT
    settlement_ns = settlement.tz_localize(EXCHANGE_TIMEZONE).tz_convert("UTC").value
    if config.roll == "mid_session":
        return expiry_row, settlement_ns, settlement_ns
    next_open = sessions["open"].iloc[last_row + 1].value
    return last_row + 1, next_open, next_open if config.roll == "session_end" else settlement_ns


def _expiries(first: date, last: date) -> list[date]:
    """Third Fridays of March, June, September and December from the month of `first` to `last`."""
    months = pd.date_range(first.replace(day=1), last, freq="MS")
    quarterly = months[months.month.isin([3, 6, 9, 12])]
    return [(month + pd.offsets.WeekOfMonth(week=2, weekday=4)).date() for month in quarterly]

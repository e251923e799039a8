"""The rolls that a simulated market has by its own law: what the ledger of the ingest has to find."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market.simulation.config import SimulationConfig
from nqcast.market.simulation.contracts import contracts, market_sessions


def known_rolls(config: SimulationConfig) -> list[dict[str, Any]]:
    """The true roll ledger: ts and session of the change, contracts, rule, and the true ratio old/new as `factor`."""
    calendar = market_sessions(config)
    quoted = contracts(config, calendar)
    rule = "volume" if config.roll == "volume" else "end_of_bars"
    ledger, cumulative = [], 1.0
    for old, new in pairwise(quoted):
        if new.front_session >= config.sessions:
            break
        cumulative *= float(np.exp(-new.log_ratio))
        ledger.append(
            {
                "ts": pd.Timestamp(new.front_ns, tz="UTC"),
                "session": calendar["session"].iloc[new.front_session],
                "from_contract": old.code,
                "to_contract": new.code,
                "rule": rule,
                "factor": float(np.exp(-new.log_ratio)),
                "cumulative_factor": cumulative,
            }
        )
    return ledger

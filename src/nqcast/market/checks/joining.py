"""Whether contracts were joined to one series as an exchange lists them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.market.calendar import distinct, nanoseconds
from nqcast.market.checks.doubt import Doubt, as_doubt
from nqcast.market.rolls import RollEntry
from nqcast.market.schema import MINUTE_NS

_LARGEST_CARRY, _LARGEST_GAP = 0.10, 0.20  # log of a factor: over common minutes; without them, a move included
_LEAST_USED, _LEAST_USED_BLIND = 0.95, 0.8  # share of minutes with a bar of the front; without volume
_DAY_NS = 1440 * MINUTE_NS


def joining_doubts(inside: pd.DataFrame, joined: pd.DataFrame, ledger: list[RollEntry]) -> list[Doubt]:
    """Doubts about factors that no roll has, minutes that no front contract covers, an end long before the file's.

    inside: the bars of all contracts; joined: those of the front.
    """
    for entry in ledger:
        if entry["rule"] in ("jump", "unadjusted"):
            continue
        factor = entry["factor"] if entry["adjusted"] else _across(joined, entry)
        if abs(np.log(factor)) > (_LARGEST_CARRY if entry["adjusted"] else _LARGEST_GAP):
            names = f"{entry['from_contract']} and {entry['to_contract']}"
            text = f"prices of {names} differ by a factor of {factor:.3g} on {entry['session']}, which no roll has"
            return [as_doubt("two products", 1, f"{text}: split the file by product")]
    stamp, used = distinct(nanoseconds(inside["ts"])), distinct(nanoseconds(joined["ts"]))
    if not len(used):
        return []
    if stamp[-1] - used[-1] > _DAY_NS:
        text = f"the series ends {_at(used[-1])}, the file {_at(stamp[-1])}: its last contract has no bars there"
        return [as_doubt("contracts in another order", int((stamp > used[-1]).sum()), f"{text}; name the contracts")]
    first = int((inside["session_position"] == inside["session_position"].iloc[0]).sum())  # its volumes tell the front
    begin = nanoseconds(inside["ts"])[first - 1]
    later = int((stamp > begin).sum())
    share = (used > begin).sum() / later if later else 1.0
    if share < (_LEAST_USED if "volume" in inside else _LEAST_USED_BLIND):
        text = f"only {share:.0%} of the file's minutes have a bar of the front contract"
        cause = "a contract that comes back after a roll, or several products?"
        return [
            as_doubt("unused bars", len(stamp) - len(used), f"{text}: {cause} Name the contracts, or split the file")
        ]
    return []


def _across(joined: pd.DataFrame, entry: RollEntry) -> float:
    """Ratio of the last close before a change to the first open after it, both adjusted so far."""
    row = int(np.searchsorted(nanoseconds(joined["ts"]), pd.Timestamp(entry["ts"]).as_unit("ns").value))
    return float(joined["close"].iloc[row - 1] / joined["open"].iloc[row]) if row else 1.0


def _at(stamp: int) -> str:
    return f"{pd.Timestamp(stamp):%Y-%m-%d %H:%M}"

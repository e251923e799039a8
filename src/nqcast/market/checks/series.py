"""What looks wrong although every row is a valid bar: repeated bars, another contract's prices, thin trade, units.

Nothing here is proof, so each doubt has a policy: rows are quarantined, the run stops, or the report says so.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from nqcast.constants import BAR_MINUTES, DAY_NS
from nqcast.market.calendar import instants, minute_of_day, nanoseconds
from nqcast.market.checks import Doubt, as_doubt
from nqcast.market.checks.other_contract import Activity, other_contract
from nqcast.market.checks.prints import BAD_PRINT, HOURLY_LIMIT, bad_prints
from nqcast.market.checks.rows import first_reasons
from nqcast.market.config import IngestConfig
from nqcast.market.contracts import Contracts
from nqcast.market.rolls import RollEntry, spread_width, weeks_of_rolls
from nqcast.market.schema import PRICES
from nqcast.spacing import Spacing

STALE = "stale: repeats the bar before"
OTHER_CONTRACT = "another contract's prices: a level apart, thinly traded"
DEFERRED = "deferred contract: not yet the front"
BEYOND_LIMITS = "price beyond the exchange's limits"

FRONT_DAYS = 120
"""Days before its expiry from which on a quarterly contract can be the front: a quarter of 98 and three weeks."""

_LIMIT = 0.25  # of a change of log price; trading halts at moves of 20 %
_PAUSE_NS = 10 * DAY_NS
_TRADING_NS, _WEEKEND_NS = DAY_NS // 96, 5 * DAY_NS
_CRASH, _CRASH_SESSIONS = 0.12, 8.0  # log: index futures open 5 % away at most, day sessions 10 %, crude has 20 %
_LARGEST_CARRY, _LARGEST_GAP = 0.10, 0.20  # log of a factor: over common minutes; without them, a move included
_WIDEST_SPREAD = 0.003  # log; two contracts of a product stay within .0005 of their spread for a day
_LEAST_USED, _LEAST_USED_BLIND = 0.95, 0.8  # share of minutes with a bar of the front; without volume


def suspect_rows(
    joined: pd.DataFrame, sessions: pd.DataFrame, contracts: Contracts, config: IngestConfig, spacing: int
) -> pd.Series:
    """Reason to doubt a row of the joined series, text by the row's label, for the doubtful ones alone.

    joined: the front contract's bars, adjusted, sorted by ts, with session_position and code.
    """
    prints = bad_prints(joined, config.print_multiple, spacing)
    prints[BAD_PRINT] |= there_and_back(joined)
    return first_reasons(
        {
            DEFERRED: deferred(joined, contracts),
            BEYOND_LIMITS: beyond_limits(joined),
            **prints,
            STALE: stale(joined, config.stale_bars),
            **({OTHER_CONTRACT: other_contract(joined, sessions, config)} if "volume" in joined else {}),
        },
        joined.index,
    )


def stale(bars: pd.DataFrame, least: int) -> np.ndarray:
    """True (N,) on every bar that repeats the `least` bars before it, equal in every price and in volume.

    Without volume four times as many are needed: a quiet night repeats prices by itself. The first repetitions stay,
    so that no bar is judged by later ones.
    """
    same = np.zeros(len(bars), dtype=bool)
    same[1:] = True
    for name in (*PRICES, *(("volume",) if "volume" in bars else ())):
        column = bars[name].to_numpy()
        same[1:] &= column[1:] == column[:-1]
    row = np.arange(len(bars))
    repeated = row - np.maximum.accumulate(np.where(same, 0, row))
    return repeated >= least * (1 if "volume" in bars else 4)


def beyond_limits(joined: pd.DataFrame) -> np.ndarray:
    """True (N,) between a move of the close beyond the limits and its way back, and where a bar's own range is as wide.

    A move that does not come back is no bad print: `level_jumps` doubts it.
    """
    away = _away(joined)
    back = np.flatnonzero(~away)
    away[back[-1] + 1 if len(back) else 0 :] = False
    return away | (joined["high"].to_numpy() > np.exp(_LIMIT) * joined["low"].to_numpy())


def level_jumps(joined: pd.DataFrame) -> tuple[list[Doubt], list[Doubt]]:
    """Doubts where prices move beyond the limits and stay there: those to stop for, and the others.

    Another unit, another product or another level. While a session trades, no price goes farther between two bars than
    the exchange lets it in an hour. While the market is closed it may: what is far for a crash stops, what is far for
    a usual session is said.
    """
    away = _away(joined)
    if len(away) and away[-1]:
        row = int(np.flatnonzero(~away)[-1]) + 1 if not away.all() else 0
        before, after = joined["close"].iloc[max(row - 1, 0)], joined["close"].iloc[row]
        ratio, ts = after / before, joined["ts"].iloc[row]
        return [as_doubt("price unit/change", int(away[row:].sum()), ts=ts, ratio=ratio)], []
    far, gap, inside = _jumps(joined)
    if not len(far):
        return [], []
    stamp, jump = nanoseconds(joined["ts"]), np.abs(gap)
    sessions = joined.groupby("session_position").agg({"high": "max", "low": "min"})
    usual = np.median(np.log(sessions["high"].to_numpy() / sessions["low"].to_numpy()))
    closed = ~inside & (stamp[far] - stamp[far - 1] < _WEEKEND_NS)
    stop = inside | (closed & (jump > max(_CRASH, _CRASH_SESSIONS * usual)))
    return _jump(joined, far[stop], ""), _jump(joined, far[closed & ~stop & (jump > 2 * usual)], "/closed")


def _jump(joined: pd.DataFrame, far: np.ndarray, kind: str) -> list[Doubt]:
    if not len(far):
        return []
    ts, before, after = joined["ts"].iloc[far[0]], joined["close"].iloc[far[0] - 1], joined["open"].iloc[far[0]]
    return [as_doubt(f"jump of level{kind}", len(far), ts=ts, before=before, after=after)]


def there_and_back(joined: pd.DataFrame) -> np.ndarray:
    """True (N,) between a jump beyond the exchange's hourly limit and one back within a day, as a feed that breaks."""
    row, gap, inside = _jumps(joined)
    stamp = nanoseconds(joined["ts"])[row]
    found = np.zeros(len(joined), dtype=bool)
    back = np.abs(gap[1:] + gap[:-1]) < 0.25 * np.abs(gap[:-1])
    returned = -1
    for k in np.flatnonzero(back & inside[1:] & inside[:-1] & (np.diff(stamp) < DAY_NS)).tolist():
        if k != returned:  # a way back is no new jump away
            found[row[k] : row[k + 1]] = True
            returned = k + 1
    return found


def _jumps(joined: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows that open beyond the exchange's hourly limit from the close before, how far (log), whether in its trading.

    Where contracts change that is left to the ledger.
    """
    open_, close, least = joined["open"].to_numpy(), joined["close"].to_numpy(), np.exp(HOURLY_LIMIT)
    row = np.flatnonzero((open_[1:] > least * close[:-1]) | (close[:-1] > least * open_[1:])) + 1
    row = row[~joined["unadjusted"].to_numpy()[row]]
    stamp, session = nanoseconds(joined["ts"]), joined["session_position"].to_numpy()
    inside = (session[row] == session[row - 1]) & (stamp[row] - stamp[row - 1] <= _TRADING_NS)
    return row, np.log(open_[row] / close[row - 1]), inside


def _away(joined: pd.DataFrame) -> np.ndarray:
    """True (N,) where moves that no exchange allows have carried the close off; days without bars allow anything."""
    close, stamp, least = joined["close"].to_numpy(), nanoseconds(joined["ts"]), np.exp(_LIMIT)
    row = np.flatnonzero((close[1:] > least * close[:-1]) | (close[:-1] > least * close[1:])) + 1
    row = row[stamp[row] - stamp[row - 1] < _PAUSE_NS]
    moves = np.cumsum(np.log(close[row] / close[row - 1]))
    length = np.diff(np.concatenate([[0], row, [len(close)]]))
    return np.repeat(np.abs(np.append(0.0, moves)) > 0.5 * _LIMIT, length)


def deferred(joined: pd.DataFrame, contracts: Contracts) -> np.ndarray:
    """True (N,) on bars of a contract that expires too late to be the front of its day."""
    if contracts.expiry is None or not len(joined):
        return np.zeros(len(joined), dtype=bool)
    month = np.array(contracts.expiry)
    first = pd.to_datetime({"year": month // 12, "month": month % 12 + 1, "day": 1})
    third_friday = (first + pd.to_timedelta((4 - first.dt.day_of_week) % 7 + 14, unit="D")).to_numpy()
    days = third_friday[joined["code"].to_numpy()] - joined["session"].to_numpy()
    return days > np.timedelta64(FRONT_DAYS, "D")


def wholly_deferred(reason: pd.Series, joined: pd.DataFrame, names: tuple[str, ...]) -> list[Doubt]:
    """A doubt where at least half of the series is a deferred contract's: the front is not in the file."""
    rows = joined.loc[reason.index[reason == DEFERRED]]
    if len(rows) < 0.5 * len(joined) or not len(rows):
        return []
    found = ", ".join(sorted({names[code] for code in rows["code"].unique()}))
    first, last = rows["session"].iloc[0].date(), rows["session"].iloc[-1].date()
    return [as_doubt("deferred contract", len(rows), first=first, last=last, names=found)]


def thin_market(bars: pd.DataFrame) -> list[Doubt]:
    """A doubt where between 08:30 and 15:00 exchange time half the sessions trade in under 9 of 10 five-minute bars.

    The front contract trades in all of them; a deferred one, whose name the file may not tell, does not.
    """
    minute = minute_of_day(bars["ts"])
    core = (minute >= 510) & (minute < 900) & ~bars["halt"].to_numpy()
    inside, stretch = bars.loc[core], minute[core] // BAR_MINUTES
    if Spacing.of(bars["ts"]).minutes < BAR_MINUTES:
        inside = inside.groupby(["session", stretch], as_index=False)["traded"].max()
    share = inside["traded"].groupby(inside["session"]).mean()
    if not len(share) or (typical := float(share.median())) >= 0.9:
        return []
    return [as_doubt("thin market", int((share < 0.9).sum()), share=1 - typical)]


def thin_stretches(
    joined: pd.DataFrame, sessions: pd.DataFrame, ledger: list[RollEntry], months: str
) -> tuple[list[Doubt], list[Doubt]]:
    """Doubts about regular sessions that trade hardly anything of what is usual: those to stop for, and the others.

    Thin is under .15 of the usual volume in a session, or under .05 in four traded hours. Where a contract changes,
    trade moves on before the file does: sessions around a roll of the ledger are left out, and those in the weeks of
    rolls of these months (none where contracts are known) are the others.
    """
    if "volume" not in joined:
        return [], []
    activity = Activity(joined, sessions)
    position, volume = activity.thin()
    length = (sessions["close"] - sessions["open"]).iloc[position]
    regular = (length > pd.Timedelta(hours=22)).to_numpy()
    days = sessions["session"].iloc[position[regular]]
    volume = volume[regular]
    rolls = pd.to_datetime([entry["session"] for entry in ledger if entry["rule"] != "jump"])
    away = np.array([all(abs((day - roll).days) > 4 for roll in rolls) for day in days], dtype=bool)
    near = weeks_of_rolls(days, months)
    stop, report = away & ~near, away & near
    return _thin(days[stop], volume[stop], ""), _thin(days[report], volume[report], ", in the weeks of a roll,")


def _thin(days: pd.Series, volume: np.ndarray, where: str) -> list[Doubt]:
    if not len(days):
        return []
    listed = ", ".join(f"{day.date()} ({share:.1%})" for day, share in zip(days[:5], volume, strict=False))
    return [as_doubt("thin stretch", len(days), n=len(days), where=where, listed=listed)]


def volume_units(joined: pd.DataFrame, multiple: float) -> list[Doubt]:
    """Changes of the unit of volume: five sessions trade `multiple` times what the five before did, or a part of it."""
    if "volume" not in joined:
        return []
    per_session = joined.groupby("session")["volume"].sum()
    total = per_session.to_numpy()
    doubts, last = [], -10
    for i in range(5, len(total) - 4):
        before, after = np.median(total[i - 5 : i]), np.median(total[i : i + 5])
        ratio = after / before if before > 0 else np.inf
        if i - last > 5 and not 1 / multiple < ratio < multiple:
            steps = np.abs(np.diff(np.log(np.maximum(total[i - 1 : i + 5], 1))))
            day = per_session.index[i + int(np.argmax(steps))].date()
            doubts.append(as_doubt("volume unit/change", 1, day=day, ratio=ratio))
            last = i
    return doubts


def unadjusted_rolls(ledger: list[RollEntry]) -> list[Doubt]:
    """Jumps of a file without contracts that lie in the weeks in which contracts change."""
    near = [entry for entry in ledger if entry["rule"] == "unadjusted"]
    if not near:
        return []
    listed = ", ".join(f"{jump['session']} ({jump['spread_points']:+g} points)" for jump in near[:5])
    return [as_doubt("unadjusted roll", len(near), listed=listed)]


def off_tick(bars: pd.DataFrame, tick: float) -> int:
    """Rows with a price that is no multiple of the tick."""
    off = np.zeros(len(bars), dtype=bool)
    for name in PRICES:
        ticks = bars[name].to_numpy() / tick
        off |= np.abs(ticks - np.rint(ticks)) > 1e-6
    return int(off.sum())


def off_tick_doubt(count: int, total: int, config: IngestConfig) -> list[Doubt]:
    """A doubt where more than the configured share of the rows is off the tick."""
    if count <= config.max_off_tick_share * total:
        return []
    return [as_doubt("off tick", count, n=count, total=total, tick=config.tick)]


def joining_doubts(
    inside: pd.DataFrame, contracts: Contracts, joined: pd.DataFrame, ledger: list[RollEntry]
) -> list[Doubt]:
    """Doubts about factors that no roll has, minutes that no front contract covers, an end long before the file's.

    inside: the bars of all contracts, with code; joined: those of the front.
    """
    rolls = [entry for entry in ledger if entry["rule"] not in ("jump", "unadjusted")]
    if other := [doubt for entry in rolls for doubt in _two_products(joined, entry)]:
        return other[:1]
    if contracts.expiry is None and (alone := _never_in_front(inside, contracts, joined)):
        return alone
    stamp, used = instants(inside["ts"]), instants(joined["ts"])
    if not len(used):
        return []
    if stamp[-1] - used[-1] > DAY_NS:
        ends = {"used": _at(used[-1]), "end": _at(stamp[-1])}
        return [as_doubt("contracts in another order", int((stamp > used[-1]).sum()), **ends)]
    first = int((inside["session_position"] == inside["session_position"].iloc[0]).sum())  # its volumes tell the front
    begin = nanoseconds(inside["ts"])[first - 1]
    later = int((stamp > begin).sum())
    share = (used > begin).sum() / later if later else 1.0
    if share < (_LEAST_USED if "volume" in inside else _LEAST_USED_BLIND):
        return [as_doubt("unused bars", len(stamp) - len(used), share=share)]
    return []


def _two_products(joined: pd.DataFrame, entry: RollEntry) -> list[Doubt]:
    """A doubt where two contracts differ as those of one product never do."""
    factor = entry["factor"] if entry["adjusted"] else _across(joined, entry)
    both = {"old": entry["from_contract"], "new": entry["to_contract"]}
    if (width := entry["spread_width"]) > _WIDEST_SPREAD:
        return [as_doubt("two products/apart", 1, **both, width=width, when=f" before {entry['session']}")]
    if abs(np.log(factor)) > (_LARGEST_CARRY if entry["adjusted"] else _LARGEST_GAP):
        return [as_doubt("two products/factor", 1, **both, factor=factor, day=entry["session"])]
    return []


def _never_in_front(inside: pd.DataFrame, contracts: Contracts, joined: pd.DataFrame) -> list[Doubt]:
    """A doubt where a number whose bars are never used stands for another product than those that are."""
    front = pd.Series(joined["raw_close"].to_numpy(), index=nanoseconds(joined["ts"]))
    for code in np.setdiff1d(inside["code"], joined["code"]):
        rows = inside["code"].to_numpy() == code
        other = pd.Series(inside["close"].to_numpy()[rows], index=nanoseconds(inside["ts"])[rows])
        ratio = np.log(front / other).dropna().tail(1440)
        both = {"old": contracts.names[code], "new": "the contract in front"}
        if (width := spread_width(ratio.to_numpy())) > _WIDEST_SPREAD:
            return [as_doubt("two products/apart", int(rows.sum()), **both, width=width, when="")]
        if abs(level := ratio.median()) > _LARGEST_CARRY:
            day = pd.Timestamp(ratio.index[-1]).date()
            return [as_doubt("two products/factor", int(rows.sum()), **both, factor=np.exp(level), day=day)]
    return []


def _across(joined: pd.DataFrame, entry: RollEntry) -> float:
    """Ratio of the last close before a change to the first open after it, both adjusted so far."""
    row = int(np.searchsorted(nanoseconds(joined["ts"]), pd.Timestamp(entry["ts"]).as_unit("ns").value))
    return float(joined["close"].iloc[row - 1] / joined["open"].iloc[row]) if row else 1.0


def _at(stamp: int) -> str:
    return f"{pd.Timestamp(stamp):%Y-%m-%d %H:%M}"

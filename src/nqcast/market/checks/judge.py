"""One entry to all checks: from the bars of a file to the rows that are kept, and what was found about them."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market import calendar
from nqcast.market.checks import Doubt, rows, series, stamps, stop_or_warn
from nqcast.market.checks.clock import zone_doubts
from nqcast.market.checks.meaning import meaning_doubts
from nqcast.market.config import IngestConfig
from nqcast.market.contracts import Contracts, identify_contracts
from nqcast.market.grid import aggregate
from nqcast.market.instruments import Instrument, table
from nqcast.market.rolls import RollEntry, join_contracts
from nqcast.market.schema import bar_starts
from nqcast.market.symbols import MONTH_CODES

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """Five-minute bars of the rows that are kept, joined and adjusted, and what was found on the way.

    quarantine: rejected rows with reasons; doubts: what is odd; counts: rows by what became of them.
    """

    bars: pd.DataFrame
    sessions: pd.DataFrame
    contracts: Contracts
    ledger: list[RollEntry]
    quarantine: pd.DataFrame
    doubts: list[Doubt]
    questions: list[dict[str, Any]]
    counts: dict[str, int]


def judge(checked: pd.DataFrame, config: IngestConfig) -> Judged:
    """Every check in the order in which one builds on another: stamps, rows, contracts, clock, columns, series.

    checked: bars as `nqcast.market.schema.check_raw_bars` gives them, in any order. Raises ValueError for other
    spacings, conflicting duplicates, too few rows, too many rejected ones, and for doubts where they are to stop.
    """
    declared = config.naive_timezone if checked.attrs.get("naive") else None
    doubts = stop_or_warn(stamps.exchanged_days(checked["ts"], declared), config)
    checked = checked.copy(deep=False)
    checked["ts"], spacing = bar_starts(checked["ts"], config.stamps == "end")
    empty = rows.without_price(checked)
    reason = rows.faults(checked, spacing, config.zero_volume).mask(empty, None)
    mixed, begin = stamps.mixed_spacing(_instants(checked["ts"]), spacing)
    if mixed and config.mixed_spacing == "newest":
        newest = checked[(checked["ts"] >= pd.Timestamp(begin, tz="UTC")).to_numpy()]
        return judge(newest, config.model_copy(update={"stamps": "start"}))
    doubts += stop_or_warn(mixed, config)
    fillers = empty | (rows.fillers(checked) & reason.isna().to_numpy() & (config.zero_volume == "drop"))
    sound, contracts, counts = _sorted_unique(checked[reason.isna() & ~fillers])
    if not len(sound):
        raise ValueError(f"expected bars, found none that can be believed: {_listed(reason)}")
    _check_product(contracts.product, config.instrument)
    sound, contracts = _front_months(sound, contracts, reason, config.instrument.months)
    off_zone, some_weeks = zone_doubts(sound, spacing, declared)
    doubts += stop_or_warn(off_zone, config) + some_weeks
    sound, sessions, questions, ended = _with_sessions(sound, spacing, config)
    doubts += ended
    outside = sound["session_position"].to_numpy() == calendar.OUTSIDE
    reason[sound.index[outside]] = rows.OUT_OF_SESSION
    inside, contracts = sound[~outside], replace(contracts, code=contracts.code[~outside])
    doubts += stop_or_warn(
        meaning_doubts(inside, contracts.code, spacing, contracts.product or config.instrument.symbol, config.tick),
        config,
    )
    joined, ledger = join_contracts(inside, contracts, config)
    doubts += stop_or_warn(series.joining_doubts(inside, contracts, joined, ledger), config)
    kept, deferred = _without_suspects(joined, sessions, contracts, reason, config, spacing)
    doubts += deferred
    rejected = reason.notna().to_numpy()
    quarantine = checked[rejected].assign(reason=reason[rejected].astype("str")).reset_index(drop=True)
    quarantine.attrs = {}
    _check_enough(reason, len(checked) - int(fillers.sum()), len(kept), config)
    off_tick = series.off_tick(inside, config.tick)
    bars = aggregate(kept, sessions, contracts.names)
    doubts += _whole_series(kept, bars, sessions, ledger, contracts, config)
    doubts += [*series.off_tick_doubt(off_tick, len(inside), config), *series.unadjusted_rolls(ledger)]
    counts |= {"rows_used": len(kept), "spacing_minutes": spacing}
    counts |= {"zero_volume_dropped": int(fillers.sum()), "off_tick_prices": off_tick}
    return Judged(bars, sessions, contracts, ledger, quarantine, doubts, questions, counts)


def _instants(ts: pd.Series) -> np.ndarray:
    """Stamps (ns) sorted, each once; without those that are missing."""
    stamp = calendar.nanoseconds(ts.dropna())
    return calendar.distinct(stamp if (stamp[1:] >= stamp[:-1]).all() else np.sort(stamp))


def _sorted_unique(sound: pd.DataFrame) -> tuple[pd.DataFrame, Contracts, dict[str, int]]:
    """Rows by time, then contract, each once; what that took."""
    disorder = int((np.diff(calendar.nanoseconds(sound["ts"])) < 0).sum())
    ordered = sound.sort_values("ts", kind="stable") if disorder else sound
    contracts = identify_contracts(ordered)
    order = np.lexsort((contracts.code, calendar.nanoseconds(ordered["ts"])))
    ordered, code = ordered.iloc[order], contracts.code[order]
    keep = rows.without_duplicates(ordered, code)
    counts = {"rows_out_of_order": disorder, "duplicates_dropped": int((~keep).sum())}
    return ordered[keep], replace(contracts, code=code[keep]), counts


def _check_product(product: str, chosen: Instrument) -> None:
    """Raise ValueError for contracts of a product that the table knows to trade by another calendar."""
    known = table().get(product)
    if known is not None and known.calendar != chosen.calendar:
        raise ValueError(
            f"expected bars of {chosen.symbol}, which trades by {chosen.calendar}, found contracts of {product}, which "
            f"trades by {known.calendar}: set instrument={product}"
        )


def _front_months(
    sound: pd.DataFrame, contracts: Contracts, reason: pd.Series, months: str
) -> tuple[pd.DataFrame, Contracts]:
    """The rows of contracts in the months that become the front; the others' reason is noted."""
    if contracts.expiry is None or not months:
        return sound, contracts
    front = np.array([MONTH_CODES[month % 12] in months for month in contracts.expiry])[contracts.code]
    if front.all():
        return sound, contracts
    reason[sound.index[~front]] = rows.OTHER_MONTH
    if not front.any():
        raise ValueError(
            f"expected contracts of the months {months}, found none among {', '.join(contracts.names[:6])}: set the "
            "instrument of these bars, or its months in a row of your own"
        )
    return sound[front], replace(contracts, code=contracts.code[front])


def _with_sessions(
    sound: pd.DataFrame, spacing: int, config: IngestConfig
) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]], list[Doubt]]:
    """Bars with session_position and session, the sessions, questions to the calendar, doubts about the stamps.

    A long run outside the calendar is real trading until someone says otherwise: it is kept, and asked about.
    """
    sessions = calendar.sessions_around(
        sound["ts"].iloc[0], sound["ts"].iloc[-1], config.session_closes, config.instrument
    )
    ended = stop_or_warn(stamps.end_stamps(sound["ts"], sessions, spacing), config)
    position = calendar.assign_sessions(sound["ts"], sessions)
    runs = calendar.runs_outside(sound["ts"], position, spacing, config.question_minutes)
    if len(runs):
        sessions = calendar.extend_sessions(sessions, runs, config.instrument)
        asked = int((position == calendar.OUTSIDE).sum())
        position = calendar.assign_sessions(sound["ts"], sessions)
        asked -= int((position == calendar.OUTSIDE).sum())
        _ask(runs, asked, len(sound), config)
    day = sessions["session"].to_numpy()[np.maximum(position, 0)]
    questions = [
        {"start": start.isoformat(), "end": end.isoformat(), "minutes": int(minutes)}
        for start, end, minutes in zip(runs["start"], runs["end"], runs["minutes"], strict=True)
    ]
    return sound.assign(session_position=position, session=day), sessions, questions, ended


def _ask(runs: pd.DataFrame, asked: int, total: int, config: IngestConfig) -> None:
    first = runs.iloc[0]
    message = (
        f"{asked} of {total} bars in {len(runs)} runs of {config.question_minutes} minutes or more, the first from "
        f"{first['start']} to {first['end']}"
    )
    if asked > config.max_question_share * total:
        raise ValueError(
            f"expected at most {config.max_question_share:.1%} of the bars outside the session calendar, found "
            f"{message}: check the time zone of the stamps, or raise max_question_share"
        )
    logger.warning("a question to the calendar: outside it are %s; kept. Set session_closes where it is wrong", message)


def _without_suspects(
    joined: pd.DataFrame,
    sessions: pd.DataFrame,
    contracts: Contracts,
    reason: pd.Series,
    config: IngestConfig,
    spacing: int,
) -> tuple[pd.DataFrame, list[Doubt]]:
    """The joined series without the rows that look wrong in it, whose reasons are noted; doubts about what is left.

    A change of contract whose factor is unknown stays marked at the first row that is kept.
    """
    suspect = series.suspect_rows(joined, sessions, contracts, config, spacing)
    rejected = pd.notna(suspect)
    found = stop_or_warn(series.wholly_deferred(suspect, joined, contracts.names), config)
    if found:  # taken as it is
        rejected &= suspect != series.DEFERRED
    reason[joined.index[rejected]] = suspect[rejected]
    changes = np.cumsum(joined["unadjusted"].to_numpy())[~rejected]
    return joined[~rejected].assign(unadjusted=np.diff(changes, prepend=0) > 0), found


def _whole_series(
    kept: pd.DataFrame,
    bars: pd.DataFrame,
    sessions: pd.DataFrame,
    ledger: list[RollEntry],
    contracts: Contracts,
    config: IngestConfig,
) -> list[Doubt]:
    """Doubts about the joined series as a whole: its units, and whether it is the front's."""
    thin, near_rolls = series.thin_stretches(kept, sessions, ledger, contracts.known)
    units = [*series.volume_units(kept, config.volume_unit_multiple), *series.price_units(kept)]
    return stop_or_warn([*units, *series.thin_market(bars), *thin], config) + near_rolls


def _check_enough(reason: pd.Series, total: int, usable: int, config: IngestConfig) -> None:
    """Raise ValueError where too many rows are rejected, or too few left."""
    faulty = reason[~reason.isin([*rows.NO_FAULT, series.DEFERRED])].dropna()
    if len(faulty) > config.max_quarantined_share * total:
        raise ValueError(
            f"expected at most {config.max_quarantined_share:.1%} of the rows to be rejected, found {len(faulty)} of "
            f"{total} ({_listed(faulty)}): repair the file, or raise max_quarantined_share"
        )
    if usable < config.min_rows:
        raise ValueError(f"expected at least {config.min_rows} usable bars, found {usable}: bring more bars")


def _listed(reason: pd.Series) -> str:
    return ", ".join(f"{text}: {n} rows" for text, n in reason.value_counts().items())

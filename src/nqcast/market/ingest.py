"""Raw vendor bars to clean 5-minute bars: check, sessions, rolls, grid."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market import calendar
from nqcast.market.checks import rows, series, stamps
from nqcast.market.config import IngestConfig
from nqcast.market.contracts import MONTH_CODES, Contracts, identify_contracts
from nqcast.market.data_report import report_text, session_report
from nqcast.market.grid import aggregate
from nqcast.market.instruments import Instrument, table
from nqcast.market.rolls import join_contracts
from nqcast.market.schema import BARS, check_raw_bars, infer_spacing

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """What ingest makes of a raw file: bars, roll ledger, rejected rows with reasons, data report."""

    bars: pd.DataFrame
    roll_ledger: list[dict[str, Any]]
    quarantine: pd.DataFrame
    report: dict[str, Any]


def build_bars(raw: pd.DataFrame, config: IngestConfig) -> Ingested:
    """Bars on the complete 5-minute grid of each session from raw 1- or 5-minute bars, in any order of rows.

    Raises ValueError for a frame that is no bars, other spacings, conflicting duplicates, too few rows, or a share of
    rejected rows above the configured one.
    """
    checked = check_raw_bars(raw, config)
    _stop_or_warn(exchanged := stamps.exchanged_days(raw["ts"]), config)
    spacing = infer_spacing(checked["ts"])
    if config.stamps == "end":
        checked["ts"] -= pd.Timedelta(minutes=spacing)
    reason = rows.faults(checked, spacing, config.zero_volume)
    fillers = rows.fillers(checked) & reason.isna().to_numpy() & (config.zero_volume == "drop")
    sound, contracts, counts = _sorted_unique(checked[reason.isna() & ~fillers])
    if not len(sound):
        raise ValueError(f"expected bars, found none that can be believed: {_listed(reason)}")
    _check_product(contracts.root, config.instrument)
    sound, contracts = _front_months(sound, contracts, reason, config.instrument.months)
    sound, sessions, questions, ended = _with_sessions(sound, spacing, config)
    outside = sound["session_position"].to_numpy() == calendar.OUTSIDE
    reason[sound.index[outside]] = rows.OUT_OF_SESSION
    inside = sound[~outside]
    joined, ledger = join_contracts(inside, contracts, config, contracts.code[~outside])
    joined, judged = _without_suspects(joined, sessions, contracts, reason, config)
    rejected = reason.notna().to_numpy()
    quarantine = checked[rejected].assign(reason=reason[rejected].astype("str")).reset_index(drop=True)
    _check_enough(reason, len(checked) - int(fillers.sum()), len(joined), config)
    bars = aggregate(joined, sessions, contracts.names)
    found = [*exchanged, *ended, *judged, *_series_doubts(joined, bars, sessions, ledger, contracts, config)]
    off_tick = series.off_tick(inside, config.tick)
    found += series.off_tick_doubt(off_tick, len(inside), config)
    if config.instrument.months:
        found += series.unadjusted_rolls([entry for entry in ledger if entry["rule"] == "jump"])
    source = str(raw.attrs.get("source", ""))
    bars.attrs["source"] = source
    report = {
        "source": source,
        **{"rows_in": len(raw), "rows_used": len(joined), "spacing_minutes": spacing},
        **counts,
        **{"zero_volume_dropped": int(fillers.sum()), "off_tick_prices": off_tick, "doubts": found},
        **_facts(bars, quarantine, ledger, contracts),
        "questions_to_the_calendar": questions,
        "sessions": session_report(bars, sessions, config.missing_stretch_minutes),
    }
    report["text"] = report_text(report)
    BARS.validate(bars)
    logger.info(
        "%s: %s rows of %s-minute bars, %s bars in %s sessions, %s quarantined, %s rolls",
        source or "ingest", len(raw), spacing, len(bars), bars["session"].nunique(), len(quarantine), report["rolls"],
    )  # fmt: skip
    return Ingested(bars, ledger, quarantine, report)


def _facts(
    bars: pd.DataFrame, quarantine: pd.DataFrame, ledger: list[dict[str, Any]], contracts: Contracts
) -> dict[str, Any]:
    """Figures of what came out."""
    return {
        "first_bar": bars["ts"].iloc[0].isoformat(),
        "last_bar": bars["ts"].iloc[-1].isoformat(),
        "bars": len(bars),
        "traded_bars": int(bars["traded"].sum()),
        "quarantined": len(quarantine),
        "quarantined_by_reason": {str(key): int(n) for key, n in quarantine["reason"].value_counts().items()},
        "contracts": list(contracts.names) if contracts.known else [],
        "rolls": len([entry for entry in ledger if entry["rule"] != "jump"]),
    }


def _sorted_unique(sound: pd.DataFrame) -> tuple[pd.DataFrame, Contracts, dict[str, int]]:
    """Rows by time, then contract, each once; what that took."""
    disorder = int((np.diff(calendar.nanoseconds(sound["ts"])) < 0).sum())
    ordered = sound.sort_values("ts", kind="stable") if disorder else sound
    contracts = identify_contracts(ordered.get("contract"), ordered["ts"])
    order = np.lexsort((contracts.code, calendar.nanoseconds(ordered["ts"])))
    ordered, code = ordered.iloc[order], contracts.code[order]
    keep = rows.without_duplicates(ordered, code)
    counts = {"rows_out_of_order": disorder, "duplicates_dropped": int((~keep).sum())}
    return ordered[keep], replace(contracts, code=code[keep]), counts


def _check_product(root: str, chosen: Instrument) -> None:
    """Raise ValueError for contracts of a product that the table knows to trade by another calendar."""
    known = table().get(root)
    if known is not None and known.calendar != chosen.calendar:
        raise ValueError(
            f"expected bars of {chosen.symbol}, which trades by {chosen.calendar}, found contracts of {root}, which "
            f"trades by {known.calendar}: set instrument={root}"
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
) -> tuple[pd.DataFrame, pd.DataFrame, list[dict[str, Any]], list[series.Doubt]]:
    """Bars with session_position and session, the sessions, questions to the calendar, doubts about the stamps.

    A long run outside the calendar is real trading until someone says otherwise: it is kept, and asked about.
    """
    sessions = calendar.sessions_around(
        sound["ts"].iloc[0], sound["ts"].iloc[-1], config.session_closes, config.instrument
    )
    _stop_or_warn(ended := stamps.end_stamps(sound["ts"], sessions, spacing), config)
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
        f"{asked} of {total} bars lie in {len(runs)} runs of {config.question_minutes} minutes or more outside the "
        f"session calendar, the first from {first['start']} to {first['end']}"
    )
    if asked > config.max_question_share * total:
        raise ValueError(
            f"expected at most {config.max_question_share:.1%} of the bars outside the session calendar, found "
            f"{message}: check the time zone of the stamps, or raise max_question_share"
        )
    logger.warning("a question to the calendar: %s; kept. Set session_closes if the calendar is wrong", message)


def _without_suspects(
    joined: pd.DataFrame, sessions: pd.DataFrame, contracts: Contracts, reason: pd.Series, config: IngestConfig
) -> tuple[pd.DataFrame, list[series.Doubt]]:
    """The joined series without the rows that look wrong in it, whose reasons are noted; doubts about what is left.

    A change of contract whose factor is unknown stays marked at the first row that is kept.
    """
    suspect = series.suspect_rows(joined, sessions, contracts, config)
    rejected = pd.notna(suspect)
    _stop_or_warn(found := series.wholly_deferred(suspect, joined, contracts.names), config)
    if found:  # taken as it is
        rejected &= suspect != series.DEFERRED
    reason[joined.index[rejected]] = suspect[rejected]
    changes = np.cumsum(joined["unadjusted"].to_numpy())[~rejected]
    return joined[~rejected].assign(unadjusted=np.diff(changes, prepend=0) > 0), found


def _series_doubts(
    joined: pd.DataFrame,
    bars: pd.DataFrame,
    sessions: pd.DataFrame,
    ledger: list[dict[str, Any]],
    contracts: Contracts,
    config: IngestConfig,
) -> list[series.Doubt]:
    """Doubts about the joined series as a whole: its unit of volume, and whether it is the front's."""
    thin, near_rolls = series.thin_stretches(joined, sessions, ledger, contracts.known)
    units = [*series.volume_units(joined, config.volume_unit_multiple), *series.price_units(joined)]
    found = [*units, *series.thin_market(bars), *thin]
    _stop_or_warn(found, config)
    return found + near_rolls


def _stop_or_warn(found: list[series.Doubt], config: IngestConfig) -> None:
    for doubt in found:
        message = f"expected bars as an exchange makes them, found a doubt, {doubt['check']}: {doubt['detail']}"
        if config.doubtful == "stop":
            raise ValueError(f"{message}; repair the file, or set ingest.doubtful=warn to take it as it is")
        logger.warning("%s; taken as it is", message)


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

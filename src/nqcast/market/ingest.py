"""Raw vendor bars to clean bars on a grid, in five steps, which are the nodes of the `ingest` pipeline."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from nqcast.market import calendar, rolls
from nqcast.market.checks import Doubt, Underway, rows, series, stamps, stop_or_warn
from nqcast.market.checks.clock import zone_doubts
from nqcast.market.checks.meaning import meaning_doubts
from nqcast.market.config import IngestConfig
from nqcast.market.contracts import Contracts, identify_contracts, other_months
from nqcast.market.data_report import make_report
from nqcast.market.grid import aggregate
from nqcast.market.instruments import require_calendar
from nqcast.market.rolls import RollEntry
from nqcast.market.schema import BARS, bar_starts, check_raw_bars, infer_spacing
from nqcast.market.vendor import as_raw_bars

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """What ingest makes of a raw file: bars, roll ledger, rejected rows with reasons, data report."""

    bars: pd.DataFrame
    roll_ledger: list[RollEntry]
    quarantine: pd.DataFrame
    report: dict[str, Any]


def build_bars(raw: pd.DataFrame, config: IngestConfig) -> Ingested:
    """Bars on the complete grid of each session from raw 1- or 5-minute bars, in any order of rows.

    Raises ValueError for a frame that is no bars, other spacings, conflicting duplicates, too few rows, too many
    rejected ones, and for doubts where they are to stop.
    """
    placed = place_in_sessions(check_rows(raw, config), config)
    return put_on_grid(reject_suspects(join_contracts(placed, config), config), config)


def check_rows(raw: pd.DataFrame, config: IngestConfig) -> Underway:
    """The rows that can be read as bars, in order of time, each once, with their contracts."""
    checked = check_raw_bars(as_raw_bars(raw), config)
    doubts = stop_or_warn(stamps.exchanged_days(checked["ts"], *_zone(checked, config)[:1]), config)
    checked["ts"], spacing = bar_starts(checked["ts"], config.stamps == "end")
    if config.bar_minutes % spacing:
        raise ValueError(
            f"expected source bars of which bars of {config.bar_minutes} minutes can be made, found one every "
            f"{spacing} minutes: bring 1-minute bars, or set bar_minutes={spacing}"
        )
    mixed, begin = stamps.mixed_spacing(checked["ts"], spacing)
    if mixed and config.mixed_spacing == "newest":
        mixed, checked = [], checked[(checked["ts"] >= begin).to_numpy()].reset_index(drop=True)
        spacing = infer_spacing(checked["ts"])
    doubts += stop_or_warn(mixed, config)
    if "volume" in checked and (checked["volume"].fillna(0) <= 0).all():
        raise ValueError(
            "expected volumes, found 0 in every row, or nothing: set features.volume=false to do without, or bring "
            "another file"
        )
    rejected, empty = rows.faults(checked, spacing, config.zero_volume)
    sound = ~empty
    sound[rejected.index] = False
    if not sound.any():
        raise ValueError(f"expected bars, found none that can be believed: {_listed(rejected)}")
    _require_few(rejected, int((~empty).sum()), config)
    bars, contracts, counts = _each_once(checked[sound], spacing, config)
    require_calendar(contracts.product, config.instrument)
    counts |= {"rows_in": len(raw), "spacing_minutes": spacing, "zero_volume_dropped": int(empty.sum())}
    underway = Underway(checked, bars, contracts, spacing, rejected, doubts, counts)
    never = bars.index[other_months(bars["code"].to_numpy(), contracts, config.instrument.months)]
    return underway.rejecting(pd.Series(rows.OTHER_MONTH, never, dtype="str"), [])


def place_in_sessions(underway: Underway, config: IngestConfig) -> Underway:
    """The bars with session and session_position, and the sessions, once their clock is proved.

    A long run outside the calendar is real trading until someone says otherwise: it is kept, and asked about.
    """
    bars, spacing = underway.bars, underway.spacing
    doubts, few = zone_doubts(bars, spacing, *_zone(underway.rows, config), config.instrument)
    stop_or_warn(doubts, config)
    ts, instrument = bars["ts"], config.instrument
    sessions = calendar.sessions_around(ts.iloc[0], ts.iloc[-1], config.session_closes, instrument)
    ended = stop_or_warn(stamps.end_stamps(ts, sessions, spacing, config.instrument, config.stamps == "end"), config)
    position = calendar.assign_sessions(ts, sessions)
    runs = calendar.runs_outside(ts, position, spacing, config.question_minutes)
    if len(runs):
        sessions = calendar.extend_sessions(sessions, runs, instrument)
        before, position = position, calendar.assign_sessions(ts, sessions)
        _ask(runs, int((before == calendar.OUTSIDE).sum() - (position == calendar.OUTSIDE).sum()), len(bars), config)
    day = sessions["session"].to_numpy()[np.maximum(position, 0)]
    placed = replace(underway, bars=bars.assign(session_position=position, session=day))
    outside = bars.loc[position == calendar.OUTSIDE, "ts"].isin(sessions["close"]).map(_OUTSIDE).astype("str")
    questions = [
        {"start": start.isoformat(), "end": end.isoformat(), "minutes": int(minutes)}
        for start, end, minutes in zip(runs["start"], runs["end"], runs["minutes"], strict=True)
    ]
    return placed.rejecting(outside, [*doubts, *few, *ended], sessions=sessions, questions=questions)


def join_contracts(underway: Underway, config: IngestConfig) -> Underway:
    """One series of the contracts in front, adjusted, and the ledger of their changes."""
    inside, contracts = underway.bars, underway.contracts
    joined, ledger = rolls.join_contracts(inside, contracts, config)
    product = contracts.product or config.instrument.symbol
    units = series.volume_units(joined, config.volume_unit_multiple)
    doubts = stop_or_warn([*meaning_doubts(joined, underway.spacing, product, config.tick), *units], config)
    doubts += stop_or_warn(series.joining_doubts(inside, contracts, joined, ledger), config)
    off_tick = series.off_tick(inside, config.tick)
    doubts += series.off_tick_doubt(off_tick, len(inside), config)
    return replace(
        underway,
        bars=joined,
        ledger=ledger,
        doubts=[*underway.doubts, *doubts, *series.unadjusted_rolls(ledger)],
        counts=underway.counts | {"off_tick_prices": off_tick},
    )


def reject_suspects(underway: Underway, config: IngestConfig) -> Underway:
    """The joined series without the rows that look wrong in it.

    A change of contract whose factor is unknown stays marked at the first row that is kept.
    """
    joined, contracts = underway.bars, underway.contracts
    suspect = series.suspect_rows(joined, underway.sessions, contracts, config, underway.spacing)
    doubts = stop_or_warn(series.wholly_deferred(suspect, joined, contracts.names), config)
    if doubts:  # taken as it is
        suspect = suspect[suspect != series.DEFERRED]
    numbered = replace(underway, bars=joined.assign(changes=np.cumsum(joined["unadjusted"].to_numpy())))
    kept = numbered.rejecting(suspect, doubts)
    changes = kept.bars.pop("changes").to_numpy()
    bars = kept.bars.assign(unadjusted=np.diff(changes, prepend=0) > 0)
    _require_few(kept.rejected, len(kept.rows) - kept.counts["zero_volume_dropped"], config)
    if len(bars) < config.min_rows:
        raise ValueError(f"expected at least {config.min_rows} usable bars, found {len(bars)}: bring more bars")
    return replace(kept, bars=bars, counts=kept.counts | {"rows_used": len(bars)})


def put_on_grid(underway: Underway, config: IngestConfig) -> Ingested:
    """Bars of all sessions, doubts about the series as a whole, and the report of it all."""
    bars = aggregate(underway.bars, underway.sessions, underway.contracts.names, config.spacing)
    judged = replace(underway, doubts=[*underway.doubts, *_whole_series(underway, bars, config)])
    rejected = underway.rejected.sort_index()
    quarantine = underway.rows.loc[rejected.index].assign(reason=rejected).reset_index(drop=True)
    quarantine.attrs = {}
    if "contract" in quarantine:
        quarantine["contract"] = quarantine["contract"].astype("str")
    bars.attrs["source"] = source = str(underway.rows.attrs.get("source", ""))
    bars.attrs["product"] = {"instrument": config.instrument.model_dump(mode="json"), "tick": config.tick}
    report = make_report(judged, bars, quarantine, config)
    BARS.validate(bars)
    logger.info(
        "%s: %s rows of %s-minute bars, %s bars in %s sessions, %s quarantined, %s rolls",
        *(source or "ingest", report["rows_in"], underway.spacing, len(bars)),
        *(bars["session"].nunique(), len(quarantine), report["rolls"]),
    )
    return Ingested(bars, underway.ledger, quarantine, report)


_OUTSIDE = {True: rows.AT_CLOSE, False: rows.OUT_OF_SESSION}


def _zone(checked: pd.DataFrame, config: IngestConfig) -> tuple[str, bool]:
    """The zone that the stamps were written in, and whether the file names it."""
    named = not checked.attrs.get("naive")
    return str(checked.attrs.get("zone", "UTC") if named else config.naive_timezone), named


def _each_once(
    sound: pd.DataFrame, spacing: int, config: IngestConfig
) -> tuple[pd.DataFrame, Contracts, dict[str, int]]:
    """Rows by time, then contract, each once, with code in place of the contract's text; what that took."""
    disorder = int((np.diff(calendar.nanoseconds(sound["ts"])) < 0).sum())
    bars = sound.sort_values("ts", kind="stable") if disorder else sound
    code, contracts = identify_contracts(bars)
    bars = bars.drop(columns="contract", errors="ignore").assign(code=code)
    stamp = calendar.nanoseconds(bars["ts"])
    repeated = 0
    if not ((np.diff(stamp) > 0) | (np.diff(code) > 0)).all():
        bars = bars.iloc[np.lexsort((code, stamp))]
        try:
            keep = rows.without_duplicates(bars)
        except ValueError:  # clocks that are set back, and a zone that changes, write an hour twice
            stop_or_warn(zone_doubts(bars, spacing, *_zone(sound, config), config.instrument)[0], config)
            raise
        bars, repeated = bars[keep], int((~keep).sum())
    return bars, contracts, {"rows_out_of_order": disorder, "duplicates_dropped": repeated}


def _ask(runs: pd.DataFrame, asked: int, total: int, config: IngestConfig) -> None:
    first = runs.iloc[0]
    message = (
        f"{asked} of {total} bars in {len(runs)} runs of {config.question_minutes} minutes or more, the first from "
        f"{first['start']} to {first['end']}"
    )
    if asked > config.max_question_share * total:
        raise ValueError(
            f"expected at most {config.max_question_share:.1%} of the bars outside the session calendar, found "
            f"{message}: check the time zone of the stamps, whether evenings have the next day's date, and the "
            "instrument, or raise max_question_share"
        )
    logger.warning(
        "a question to the calendar, which leaves out %s; kept. Set session_closes where it is wrong", message
    )


def _whole_series(underway: Underway, bars: pd.DataFrame, config: IngestConfig) -> list[Doubt]:
    """Doubts about the joined series as a whole: its levels, and whether it is the front's."""
    kept = underway.bars
    months = "" if underway.contracts.known else config.instrument.months
    thin, near_rolls = series.thin_stretches(kept, underway.sessions, underway.ledger, months)
    jumps, crashes = series.level_jumps(kept)
    return stop_or_warn([*jumps, *series.thin_market(bars), *thin], config) + crashes + near_rolls


def _require_few(rejected: pd.Series, total: int, config: IngestConfig) -> None:
    """Raise ValueError where too many rows are rejected for a fault of theirs."""
    faulty = rejected[~rejected.isin([*rows.NO_FAULT, series.DEFERRED])]
    if len(faulty) > config.max_quarantined_share * total:
        raise ValueError(
            f"expected at most {config.max_quarantined_share:.1%} of the rows to be rejected, found {len(faulty)} of "
            f"{total} ({_listed(faulty)}): repair the file, or raise max_quarantined_share"
        )


def _listed(reason: pd.Series) -> str:
    return ", ".join(f"{text}: {n} rows" for text, n in reason.value_counts().items())

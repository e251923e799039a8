"""Raw vendor bars to clean 5-minute bars: check, judge, aggregate, report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nqcast.market.checks.judge import judge
from nqcast.market.config import IngestConfig
from nqcast.market.data_report import make_report
from nqcast.market.rolls import RollEntry
from nqcast.market.schema import BARS, check_raw_bars

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ingested:
    """What ingest makes of a raw file: bars, roll ledger, rejected rows with reasons, data report."""

    bars: pd.DataFrame
    roll_ledger: list[RollEntry]
    quarantine: pd.DataFrame
    report: dict[str, Any]


def build_bars(raw: pd.DataFrame, config: IngestConfig) -> Ingested:
    """Bars on the complete 5-minute grid of each session from raw 1- or 5-minute bars, in any order of rows.

    Raises ValueError for a frame that is no bars, other spacings, conflicting duplicates, too few rows, or a share of
    rejected rows above the configured one.
    """
    judged = judge(check_raw_bars(raw, config), config)
    bars, source = judged.bars, str(raw.attrs.get("source", ""))
    bars.attrs["source"] = source
    report = make_report(judged, raw, config)
    BARS.validate(bars)
    logger.info(
        "%s: %s rows of %s-minute bars, %s bars in %s sessions, %s quarantined, %s rolls",
        *(source or "ingest", len(raw), report["spacing_minutes"], len(bars)),
        *(bars["session"].nunique(), len(judged.quarantine), report["rolls"]),
    )
    return Ingested(bars, judged.ledger, judged.quarantine, report)

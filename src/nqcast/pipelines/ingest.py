"""From a vendor's rows to clean five-minute bars.

raw_bars → bars, roll_ledger, quarantine, data_report.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig
from nqcast.market.config import IngestConfig
from nqcast.market.ingest import build_bars
from nqcast.market.rolls import RollEntry

logger = logging.getLogger(__name__)


def ingest_bars(
    raw_bars: pd.DataFrame, config: IngestConfig, features: FeaturesConfig
) -> tuple[pd.DataFrame, list[RollEntry], pd.DataFrame, dict[str, Any]]:
    """Check the vendor's bars, put them on the session grid and stitch the contracts.

    A file without volume is taken when the features do without it too, or find out for themselves.
    """

    volume = features.has_volume(raw_bars)
    if config.volume and not volume and features.volume == "auto":
        logger.info("the file has no volume: log_volume, amihud and volume_ma_ratio are 0 (features.volume=auto)")
    ingested = build_bars(raw_bars, config.model_copy(update={"volume": config.volume and volume}))
    return ingested.bars, ingested.roll_ledger, ingested.quarantine, ingested.report


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                ingest_bars,
                inputs=["raw_bars", "params:ingest", "params:features"],
                outputs=["bars", "roll_ledger", "quarantine", "data_report"],
                name="ingest_bars",
            )
        ]
    )

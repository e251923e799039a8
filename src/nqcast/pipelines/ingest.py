"""From a vendor's rows to clean bars on a grid: rows, sessions, contracts, suspects, grid.

raw_bars → bars, roll_ledger, quarantine, data_report. What lies between stays in memory, and all four outputs are the
last node's, so that a file that is refused leaves those of an earlier one as they were.
"""

import logging
from typing import Any

import pandas as pd
from kedro.pipeline import Node, Pipeline

from nqcast.data.config import FeaturesConfig
from nqcast.fields import changed
from nqcast.market import ingest
from nqcast.market.checks import Underway
from nqcast.market.config import IngestConfig
from nqcast.market.rolls import RollEntry

logger = logging.getLogger(__name__)


def check_rows(raw_bars: pd.DataFrame, config: IngestConfig, features: FeaturesConfig) -> Underway:
    """Check the vendor's rows, and name their contracts.

    A file without volume is taken when the features do without it too, or find out for themselves.
    """
    volume = features.has_volume(raw_bars)
    if config.volume and not volume and features.volume == "auto":
        logger.info("the file has no volume: log_volume, amihud and volume_ma_ratio are 0 (features.volume=auto)")
    return ingest.check_rows(raw_bars, changed(config, {"volume": config.volume and volume}))


def make_bars(
    trusted_rows: Underway, config: IngestConfig
) -> tuple[pd.DataFrame, list[RollEntry], pd.DataFrame, dict[str, Any]]:
    """Put the rows that are left on the grid of their sessions, and report on all of them."""
    ingested = ingest.put_on_grid(trusted_rows, config)
    return ingested.bars, ingested.roll_ledger, ingested.quarantine, ingested.report


def create_pipeline() -> Pipeline:
    return Pipeline(
        [
            Node(
                check_rows,
                inputs=["raw_bars", "params:ingest", "params:features"],
                outputs="checked_rows",
                name="check_rows",
            ),
            Node(
                ingest.place_in_sessions,
                inputs=["checked_rows", "params:ingest"],
                outputs="placed_rows",
                name="place_in_sessions",
            ),
            Node(
                ingest.join_contracts,
                inputs=["placed_rows", "params:ingest"],
                outputs="joined_rows",
                name="join_contracts",
            ),
            Node(
                ingest.reject_suspects,
                inputs=["joined_rows", "params:ingest"],
                outputs="trusted_rows",
                name="reject_suspects",
            ),
            Node(
                make_bars,
                inputs=["trusted_rows", "params:ingest"],
                outputs=["bars", "roll_ledger", "quarantine", "data_report"],
                name="make_bars",
            ),
        ]
    )

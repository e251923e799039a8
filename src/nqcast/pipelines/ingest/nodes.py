"""From a vendor's rows to clean five-minute bars."""

from __future__ import annotations

from typing import Any

import pandas as pd

from nqcast.data.config import FeaturesConfig
from nqcast.market.config import IngestConfig


def ingest_bars(
    raw_bars: pd.DataFrame, config: IngestConfig, features: FeaturesConfig
) -> tuple[pd.DataFrame, list[dict[str, Any]], pd.DataFrame, dict[str, Any]]:
    """Check the vendor's bars, put them on the session grid and stitch the contracts.

    A file without volume is taken when the features do without it too.
    """
    from nqcast.market.ingest import build_bars

    ingested = build_bars(raw_bars, config.model_copy(update={"volume": config.volume and features.volume}))
    return ingested.bars, ingested.roll_ledger, ingested.quarantine, ingested.report

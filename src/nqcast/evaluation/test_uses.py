"""The record that a scoring of the test split leaves behind: whoever reads a score can see how often it was taken."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Sequence
from typing import Any

from nqcast.evaluation.config import EvaluateConfig


def count_uses(log: Sequence[dict[str, Any]], data: str) -> int:
    """How often the test split of these data (their fingerprint) was scored; other data in the same log are others."""
    return sum(record["data"] == data for record in log)


def use_record(checkpoint: dict[str, Any], anchors: int, config: EvaluateConfig) -> dict[str, Any]:
    """Time (UTC), a hash of everything that shaped the forecasts, and how many anchors are scored."""
    metadata = checkpoint["metadata"]
    shaped = {key: metadata[key] for key in ("fingerprint", "model", "train", "scale", "quantiles")}
    text = json.dumps({**shaped, "evaluate": config.model_dump(mode="json")}, sort_keys=True, default=str)
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "configuration": hashlib.sha256(text.encode()).hexdigest()[:16],
        "checkpoint": metadata["fingerprint"],
        "data": metadata["data"]["fingerprint"],
        "anchors": anchors,
    }

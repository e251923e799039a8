"""The record that a scoring of the test split leaves behind: whoever reads a score can see how often it was taken."""

import datetime as dt
from collections.abc import Sequence

from nqcast.evaluation.config import EvaluateConfig
from nqcast.storage.checkpoint import Checkpoint, Json
from nqcast.storage.fingerprint import fingerprint


def count_uses(log: Sequence[Json], data: str) -> int:
    """How often the test split of these data (their fingerprint) was scored; other data in the same log are others.

    A line that names sessions instead of data, as a walk-forward's does, counts: its sessions may be these.
    """
    return sum(record.get("data", data) == data for record in log)


def use_record(checkpoint: Checkpoint, anchors: int, config: EvaluateConfig) -> Json:
    """Time (UTC), a hash of everything that shaped the forecasts, and how many anchors are scored."""
    metadata = checkpoint.metadata
    shaped = {key: getattr(metadata, key) for key in ("fingerprint", "model", "train", "scale", "quantiles")}
    return {
        "time": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "configuration": fingerprint({**shaped, "evaluate": config.model_dump(mode="json")}),
        "checkpoint": metadata.fingerprint,
        "data": metadata.data.fingerprint,
        "anchors": anchors,
    }

"""The record that a scoring of the test split leaves behind: whoever reads a score can see how often it was taken."""

import datetime as dt
from collections.abc import Sequence

import pandas as pd

from nqcast.data.fingerprint import fingerprint as content_of
from nqcast.evaluation.config import EvaluateConfig
from nqcast.storage.checkpoint import Checkpoint
from nqcast.storage.fingerprint import fingerprint
from nqcast.storage.json_values import Json


def count_uses(log: Sequence[Json], data: str) -> int:
    """How often the test split of these data (their fingerprint) was scored; other data in the same log are others.

    A line that names sessions instead of data, as a walk-forward's does, counts: its sessions may be these.
    """
    return sum(record.get("data", data) == data for record in log)


def use_by_checkpoint(checkpoint: Checkpoint, anchors: int, config: EvaluateConfig) -> Json:
    """A checkpoint's line: a hash of everything that shaped the forecasts, and how many anchors are scored."""
    metadata = checkpoint.metadata
    shaped = {key: getattr(metadata, key) for key in ("fingerprint", "model", "train", "scale", "quantiles")}
    configuration = fingerprint({**shaped, "evaluate": config.model_dump(mode="json")})
    return _now(configuration, metadata.fingerprint, metadata.data.fingerprint, anchors)


def use_by_file(rows: pd.DataFrame, features: pd.DataFrame, anchors: int) -> Json:
    """The line of forecasts in a file; empty where no test anchor is scored."""
    name = content_of(rows)
    return _now(name, f"file {name}", content_of(features), anchors) if anchors else {}


def use_of_sessions(kind: str, frame: pd.DataFrame, name: str | None = None) -> Json:
    """A walk-forward's line: which sessions were scored, how many anchors, under which registration."""
    days = frame["session"]
    return {
        "time": _time(),
        "kind": kind,
        **({} if name is None else {"registration": name}),
        "first_session": str(days.min().date()),
        "last_session": str(days.max().date()),
        "sessions": int(days.nunique()),
        "anchors": int(frame["ts"].nunique()),
    }


def _now(configuration: str, checkpoint: str, data: str, anchors: int) -> Json:
    shaped = {"configuration": configuration, "checkpoint": checkpoint, "data": data}
    return {"time": _time(), **shaped, "anchors": anchors}


def _time() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="seconds")

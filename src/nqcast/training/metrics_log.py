"""metrics.jsonl: every metric of a run, one JSON object per line, in the order of its steps."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nqcast.storage.errors import storage_errors
from nqcast.storage.json_values import finite

METRICS_NAME = "metrics.jsonl"


class MetricsLog:
    """Appends lines; a resumed run cuts off what a lost continuation had written, so no step appears twice."""

    def __init__(self, directory: Path, writes: bool = True) -> None:
        """Without `writes`, as in all ranks but one, nothing is written."""
        self.path, self.writes = directory / METRICS_NAME, writes

    def append(self, values: Mapping[str, Any], durable: bool = False) -> None:
        """Write one line; `durable` waits until it is on disk."""
        if not self.writes:
            return
        line = json.dumps(finite(values), allow_nan=False) + "\n"
        with storage_errors(self.path, len(line)), self.path.open("a", encoding="utf-8") as file:
            file.write(line)
            if durable:
                file.flush()
                os.fsync(file.fileno())

    def size(self) -> int:
        """Length of the file (bytes)."""
        return self.path.stat().st_size if self.path.exists() else 0

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes (all of them where fewer exist)."""
        if self.writes and self.size() > size:
            with self.path.open("r+b") as file:
                file.truncate(size)
                file.flush()
                os.fsync(file.fileno())

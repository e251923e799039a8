"""trial.json: what a trial tries and how it ended, beside its run directory, for whoever follows the trials."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CARD = "trial.json"
RUNNING, FINISHED, FAILED = "RUNNING", "FINISHED", "FAILED"


class TrialCard:
    """{name, parameters, tags, status, started, ended, metrics}; times in ms since 1970, replaced as a whole."""

    def __init__(self, path: Path, study: str, number: int, parameters: Mapping[str, Any]) -> None:
        self._path = path
        self._content: dict[str, Any] = {
            "name": f"trial_{number:04d}",
            "parameters": dict(parameters),
            "tags": {"optuna.study": study, "optuna.trial": str(number)},
            "status": RUNNING,
            "started": _now(),
        }

    def begin(self) -> None:
        """Write it, before the trial's first step."""
        self._write()

    def end(self, state: str, metrics: Mapping[str, float | None]) -> None:
        """`state` is complete, pruned or failed; a pruned trial has done its work."""
        self._content["tags"]["optuna.state"] = state
        self._content["status"] = FAILED if state == "failed" else FINISHED
        self._content["metrics"] = {name: value for name, value in metrics.items() if value is not None}
        self._content["ended"] = _now()
        self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}.tmp")
        temporary.write_text(json.dumps(self._content, indent=1), encoding="utf-8")
        temporary.replace(self._path)


def _now() -> int:
    return int(1000 * time.time())

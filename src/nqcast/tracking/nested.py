"""Runs inside a run, such as the trials of a tuning: folders with a card (trial.json) that says what is tried."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

CARD = "trial.json"  # see nqcast.experiments.trial_card


@dataclass(frozen=True)
class NestedRun:
    """A folder below the root, its key in the spool, and its card as it is now."""

    key: str
    folder: Path
    card: dict[str, Any]

    @property
    def ended(self) -> bool:
        return self.card["status"] != "RUNNING"


class NestedRuns:
    """Finds the nested runs below `root` (<root>/<group>/<run>/trial.json) that begin or change from now on."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen = {path: _stamp(path) for path in self._cards()}
        self._open: dict[str, NestedRun] = {}

    def look(self) -> Iterator[tuple[NestedRun, bool]]:
        """Every run that is open, and whether it is new; one that has ended comes for the last time."""
        new: set[str] = set()
        for path in self._cards():
            stamp = _stamp(path)
            if self._seen.get(path) == stamp:
                continue
            card = _read(path)
            if card is None:
                continue
            self._seen[path] = stamp
            run = NestedRun(path.parent.relative_to(self._root).as_posix(), path.parent, card)
            new |= {run.key} - set(self._open)
            self._open[run.key] = run
        for run in list(self._open.values()):
            if run.ended:
                del self._open[run.key]
            yield run, run.key in new

    def _cards(self) -> list[Path]:
        return sorted(self._root.glob(f"*/*/{CARD}"))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        card = json.loads(path.read_bytes())
        return card if {"name", "parameters", "tags", "status", "started"} <= set(card) else None
    except FileNotFoundError:  # moved between two looks
        return None
    except (ValueError, TypeError) as error:
        log.warning("tracking: %s is no card of a nested run and is left out: %s", path, error)
        return None


def _stamp(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_ino, status.st_mtime_ns

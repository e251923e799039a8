"""The same metrics for TensorBoard, one folder per run: `tensorboard --logdir data/09_tracking/tensorboard`."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class TensorBoardRuns:
    """Writes each run's metrics below `root`.

    Raises ValueError where tensorboard is not installed.
    """

    def __init__(self, root: Path) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            raise ValueError(
                "expected tensorboard to be installed, found it missing; pip install 'nqcast[loggers]' (or "
                "tensorboard) or set tracking.tensorboard=false"
            )
        self._root = root
        self._writers: dict[str, Any] = {}
        self._broken = False

    def log(self, run: str, values: Mapping[str, float], step: int, seconds: float) -> None:
        """Add one step of `run`; trouble with the files ends this log, not the run."""
        if self._broken:
            return
        try:
            if run not in self._writers:
                from nqcast.training.loggers import TensorBoardLogger

                self._writers[run] = TensorBoardLogger(self._root / run)
            self._writers[run].log(values, step, seconds)
        except OSError as error:
            self._broken = True
            log.warning("tracking: TensorBoard's files cannot be written, the run goes on without them: %s", error)

    def close(self) -> None:
        """Finish the files."""
        for writer in self._writers.values():
            writer.close()

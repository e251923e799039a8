"""What is written down of a run while it trains: metrics.jsonl, a line per epoch, and the loggers of other libraries.

`Trainer(logger=…)` takes anything with log(dict, step). A wandb run has that call itself; TensorBoard has not, and
MLflow's is nqcast.tracking.logger.MlflowLogger. Each library is imported when its logger is made.
"""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from nqcast.storage.append_only import append_line
from nqcast.storage.json_values import finite

METRICS_NAME = "metrics.jsonl"


class Logger(Protocol):
    """Whatever takes a run's numbers while it trains."""

    def log(self, values: Mapping[str, Any], *, step: int) -> object:
        """Take in one epoch's metrics; what it returns is of no account."""


class MissingLoggerError(ValueError):
    """A logger was asked for whose library is not installed; the message says how to get it."""


def numbers(values: Mapping[str, object]) -> dict[str, float]:
    """The numeric values, apart from the step and time that a line of metrics.jsonl carries."""
    return {
        str(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and name not in ("step", "time")
    }


def needed(module: str, library: str, wish: str) -> ModuleType:
    """Import `module`.

    Raises:
        MissingLoggerError: `library` is not installed, `wish` is what asked for it.
    """
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise _missing(library, wish) from error
    if getattr(found, "__file__", None) is None:  # a folder of that name in the current one, such as wandb's own logs
        raise _missing(library, wish)
    return found


def _missing(library: str, wish: str) -> MissingLoggerError:
    return MissingLoggerError(
        f"expected {library} to be installed, found it missing; pip install 'nqcast[loggers]' (or {library}) or leave "
        f"{wish} off"
    )


class TensorBoardLogger:
    """Writes numbers as TensorBoard scalars below `folder`; `tensorboard --logdir FOLDER` shows them.

    Raises MissingLoggerError where tensorboard is not installed.
    """

    def __init__(self, folder: Path | str) -> None:
        needed("tensorboard", "tensorboard", "the TensorBoard logger")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), flush_secs=10)

    def log(self, values: Mapping[str, object], step: int, seconds: float | None = None) -> None:
        """One scalar per number; text and None are left out. `seconds` is the time of the event, by default now."""
        for name, value in numbers(values).items():
            self._writer.add_scalar(name, value, step, walltime=seconds)
        self._writer.flush()

    def close(self) -> None:
        """Finish the event file."""
        self._writer.close()

    def __enter__(self) -> TensorBoardLogger:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Iterable[Logger]) -> None:
        self._loggers = tuple(loggers)

    def log(self, values: Mapping[str, object], step: int) -> None:
        """Pass `values` on to each, in order."""
        for logger in self._loggers:
            logger.log(values, step=step)


def start_wandb(config: Mapping[str, object]) -> Logger:
    """A new wandb run in the project nqcast; WANDB_MODE=offline keeps it on this machine.

    Raises MissingLoggerError where wandb is not installed.
    """
    run: Logger = needed("wandb", "wandb", "use_wandb").init(project="nqcast", config=dict(config))
    return run


class MetricsLog:
    """metrics.jsonl: every metric of a run, one JSON object per line, in the order of its steps.

    A resumed run cuts off what a lost continuation had written, so no step appears twice.
    """

    def __init__(self, directory: Path, writes: bool = True) -> None:
        """`writes` is false in all ranks but one: they write nothing."""
        self.path, self.writes = directory / METRICS_NAME, writes

    def append(self, values: Mapping[str, object], durable: bool = False) -> None:
        """Write one line; `durable` waits until it is on disk."""
        if not self.writes:
            return
        line = json.dumps(finite(values), allow_nan=False).encode() + b"\n"
        append_line(self.path, line, durable=durable)

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


def epoch_line(record: Mapping[str, Any], start_name: str) -> str:
    """An epoch for the terminal; its last number is what the network has gained over its start."""
    parts = [f"epoch {record['epoch']:3d}"]
    if "train_loss" in record:
        parts.append(f"train {record['train_loss']:.5f}")
    parts.append(f"validation {record['val_loss']:.5f}")
    parts.append(f"over {start_name} {100 * record[f'skill_{start_name}']:+.2f} %")
    return "  ".join(parts)

"""Training: losses, schedules, checkpoints and the loop. Takes a torch module and iterables of batches."""

from importlib import import_module
from typing import Any

_HOME = {
    "TrainConfig": "nqcast.training.config",
    "PinballLoss": "nqcast.training.loss_functions",
    "CombinedQuantileLoss": "nqcast.training.loss_functions",
    "MetricSums": "nqcast.training.loss_functions",
    "metric_values": "nqcast.training.loss_functions",
    "WarmupCosineScheduler": "nqcast.training.scheduler",
    "LinearWarmupScheduler": "nqcast.training.scheduler",
    "EarlyStopping": "nqcast.training.early_stopping",
    "Trainer": "nqcast.training.trainer",
    "create_trainer": "nqcast.training.factory",
    "TensorBoardLogger": "nqcast.training.loggers",
    "Loggers": "nqcast.training.loggers",
    "CheckpointError": "nqcast.training.checkpoint",
    "DirectoryLock": "nqcast.training.run_directory",
}
__all__ = [
    "CheckpointError",
    "CombinedQuantileLoss",
    "DirectoryLock",
    "EarlyStopping",
    "LinearWarmupScheduler",
    "Loggers",
    "MetricSums",
    "PinballLoss",
    "TensorBoardLogger",
    "TrainConfig",
    "Trainer",
    "WarmupCosineScheduler",
    "create_trainer",
    "metric_values",
]


def __getattr__(name: str) -> Any:
    """Import the module that defines `name` on first use, so that reading a configuration costs no torch import."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)

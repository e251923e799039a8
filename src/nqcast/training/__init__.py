"""Training: losses, schedules, checkpoints and the loop. Takes a torch module and iterables of batches."""

from nqcast.lazy import lazily

_HOME = {
    "TrainConfig": "config",
    "PinballLoss": "loss_functions",
    "CombinedQuantileLoss": "loss_functions",
    "MetricSums": "loss_functions",
    "metric_values": "loss_functions",
    "WarmupCosineScheduler": "scheduler",
    "LinearWarmupScheduler": "scheduler",
    "EarlyStopping": "scheduler",
    "Trainer": "trainer",
    "create_trainer": "factory",
    "TensorBoardLogger": "loggers",
    "Loggers": "loggers",
    "CheckpointError": "checkpoint",
}
__all__ = sorted(_HOME)

__getattr__ = lazily(__name__, _HOME)

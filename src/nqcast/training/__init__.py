"""Training: losses, schedules, checkpoints and the loop. Takes a torch module and iterables of batches."""

from nqcast.lazy import lazily

__all__, __getattr__ = lazily(
    __name__,
    config="TrainConfig",
    loss_functions="PinballLoss CombinedQuantileLoss MetricSums metric_values",
    scheduler="WarmupCosineScheduler LinearWarmupScheduler EarlyStopping",
    trainer="Trainer",
    factory="create_trainer",
    loggers="TensorBoardLogger Loggers",
    checkpoint="CheckpointError",
)
